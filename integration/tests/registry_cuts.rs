//! The way to a real registry breaks in the middle of a blob: what went over it before is not sent once more, as far as the
//! registry keeps it.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use gantry_integration::cut_proxy::{CutProxy, Direction};
use gantry_integration::image_desk::ImageDesk;
use gantry_integration::registry::{Guard, Registry};
use gantry_integration::{ImageTree, wait_until};
use serde_json::Value;

/// Bytes of the one large file, which is a layer of its own.
const LARGE: usize = 8_000_000;
/// Where a connection ends that carries it. No other blob is so large.
const CUT: u64 = 3_000_000;
/// What goes over a connection besides one blob: headers, small answers before.
const BESIDE: u64 = 100_000;
const LIMIT: Duration = Duration::from_secs(20);

fn desk_with_image() -> ImageDesk {
    let desk = ImageDesk::new().unwrap();
    ImageTree::with_scripts(&desk.folder().join("context"))
        .unwrap()
        .incompressible("bin/kubelet", LARGE, 7)
        .unwrap();
    desk.gantry("build -t demo:v1 context").unwrap().ok().unwrap();
    desk
}

/// The blobs of `demo:v1`, with their sizes: the config, and the layers.
fn blobs(desk: &ImageDesk) -> Vec<(String, u64)> {
    desk.gantry("save --format oci-dir -o layout demo:v1")
        .unwrap()
        .ok()
        .unwrap();
    let digest = desk
        .gantry("inspect -f {{.Digest}} demo:v1")
        .unwrap()
        .ok()
        .unwrap();
    let path = desk
        .folder()
        .join("layout/blobs")
        .join(digest.trim().replace(':', "/"));
    let manifest: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let all = std::iter::once(&manifest["config"]).chain(layers);
    all.map(|blob| {
        (
            blob["digest"].as_str().unwrap().to_owned(),
            blob["size"].as_u64().unwrap(),
        )
    })
    .collect()
}

fn large(blobs: &[(String, u64)]) -> &(String, u64) {
    blobs.iter().max_by_key(|(_, size)| size).unwrap()
}

/// What the registry answered to requests for a blob, once as many have ended.
fn answers(registry: &Registry, blob: &str, count: usize) -> Vec<(u16, u64)> {
    wait_until("the registry has answered", LIMIT, || {
        let answers = registry.answers("GET", blob)?;
        Ok((answers.len() >= count).then_some(answers))
    })
    .unwrap()
}

/// No blob was committed twice.
fn arrived_once(registry: &Registry, blobs: &[(String, u64)]) {
    for (blob, _) in blobs {
        let hex = blob.strip_prefix("sha256:").unwrap();
        assert_eq!(registry.answers("PUT", hex).unwrap(), [(201, 0)], "{blob}");
    }
}

#[test]
fn a_pull_fetches_no_byte_twice() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let proxy = CutProxy::start(registry.host()).unwrap();
    let name = format!("{}/team/demo:v1", proxy.host());
    desk.gantry(&format!("push demo:v1 {name} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    let blobs = blobs(&desk);
    let (blob, size) = large(&blobs);
    let all: u64 = blobs.iter().map(|(_, size)| size).sum();

    // In one command: it asks again by itself.
    let before = proxy.passed(Direction::ToClient);
    proxy.cut(Direction::ToClient, CUT, 2, || ());
    let pulled = desk.gantry_in("one", &format!("pull {name} --insecure")).unwrap();
    assert_eq!(pulled.status, Some(0), "{pulled}");
    assert!(
        pulled.stderr.contains("broke off blob") && !pulled.stderr.contains("run the same command again"),
        "{pulled}"
    );
    assert_eq!(proxy.cuts_left(), 0);
    let passed = proxy.passed(Direction::ToClient) - before;
    assert!(passed < all + BESIDE, "{passed} bytes for {all}");
    let [whole, second, third] = answers(&registry, blob, 3)[..] else {
        panic!("{}", registry.log().unwrap());
    };
    assert_eq!((whole.0, second.0, third.0), (200, 206, 206));
    let goes_on = |left: u64| left - CUT..left - CUT + BESIDE;
    // What it logs of a part that was cut, too, is what it gave to the connection, not what arrived.
    assert!(goes_on(*size).end > second.1, "{second:?} of {size}");
    assert!(
        goes_on(size - CUT).end > third.1 && third.1 >= size - 2 * CUT,
        "{third:?} of {size}"
    );
    desk.gantry_in("one", "store check").unwrap().ok().unwrap();

    // In the next command, when the first one gave up.
    let before = proxy.passed(Direction::ToClient);
    proxy.cut(Direction::ToClient, CUT, 1, || ());
    let pull = format!("pull {name} --insecure --retries 0");
    let failed = desk.gantry_in("two", &pull).unwrap();
    assert_eq!(failed.status, Some(7), "{failed}");
    assert!(failed.stderr.contains("run the same command again"), "{failed}");
    let none = desk.gantry_in("two", "images -o json").unwrap().ok().unwrap();
    assert_eq!(none.trim(), "[]");
    desk.gantry_in("two", &pull).unwrap().ok().unwrap();
    let (status, rest) = answers(&registry, blob, 5)[4];
    assert_eq!(status, 206);
    assert!(goes_on(*size).contains(&rest), "{rest} of {size}");
    let passed = proxy.passed(Direction::ToClient) - before;
    assert!(passed < all + BESIDE, "{passed} bytes for {all}");
    desk.gantry_in("two", "store check").unwrap().ok().unwrap();
}

/// What a mirror sent before it broke off is not asked of the origin.
#[test]
fn the_origin_goes_on_where_a_mirror_was_cut() {
    let desk = desk_with_image();
    let registry = Registry::start(&desk.folder().join("registry"), &Guard::default()).unwrap();
    let proxy = CutProxy::start(registry.host()).unwrap();
    let conf = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        registry.host(),
        proxy.host()
    );
    std::fs::write(desk.folder().join("etc/registries.conf"), conf).unwrap();
    let name = format!("{}/team/demo:v1", registry.host());
    desk.gantry(&format!("push demo:v1 {name}"))
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(
        proxy.passed(Direction::ToRegistry),
        0,
        "what is pushed goes to the origin"
    );
    proxy.cut(Direction::ToClient, CUT, 1, || ());
    let pulled = desk
        .gantry_in("there", &format!("pull {name} --retries 0"))
        .unwrap();
    assert_eq!(pulled.status, Some(0), "{pulled}");
    assert!(pulled.stderr.contains("asking the next one"), "{pulled}");
    let blobs = blobs(&desk);
    let (blob, size) = large(&blobs);
    let (status, rest) = answers(&registry, blob, 2)[1];
    assert_eq!(status, 206);
    assert!(
        (size - CUT..size - CUT + BESIDE).contains(&rest),
        "{rest} of {size}"
    );
    desk.gantry_in("there", "store check").unwrap().ok().unwrap();
}

/// distribution throws away what it has of an upload whose state it was not asked to save: a blob that was cut begins anew. Blobs
/// that were there are not sent again.
#[test]
fn a_push_sends_no_blob_twice_that_arrived() {
    let desk = desk_with_image();
    let folder = desk.folder().join("registry");
    let registry = Registry::start(&folder, &Guard::default()).unwrap();
    let proxy = CutProxy::start(registry.host()).unwrap();
    let name = format!("{}/team/demo:v1", proxy.host());
    let blobs = blobs(&desk);
    let size = large(&blobs).1;
    let all: u64 = blobs.iter().map(|(_, size)| size).sum();
    let arrived = move || {
        let log = std::fs::read_to_string(folder.join("log")).unwrap();
        log.lines()
            .filter(|line| line.contains("\"PUT ") && line.contains("/blobs/uploads/"))
            .count()
    };
    // The large one is cut when all others are there.
    let others = blobs.len() - 1;
    proxy.cut(Direction::ToRegistry, CUT, 1, move || {
        wait_until("the small blobs are there", LIMIT, || {
            Ok((arrived() >= others).then_some(()))
        })
        .unwrap();
    });
    let push = format!("push demo:v1 {name} --insecure --retries 0");
    let failed = desk.gantry(&push).unwrap();
    assert_eq!(failed.status, Some(7), "{failed}");
    assert!(failed.stderr.contains("cannot reach registry"), "{failed}");
    assert_eq!(proxy.cuts_left(), 0);
    let nothing = desk.sh(&format!(
        "curl --silent http://{}/v2/team/demo/manifests/v1",
        registry.host()
    ));
    assert!(
        nothing.unwrap().contains("MANIFEST_UNKNOWN"),
        "an image that is not whole has no name"
    );

    let before = proxy.passed(Direction::ToRegistry);
    let pushed = desk.gantry(&push).unwrap();
    assert_eq!(pushed.status, Some(0), "{pushed}");
    assert!(pushed.stderr.contains("1 blob pushed"), "{pushed}");
    let passed = proxy.passed(Direction::ToRegistry) - before;
    assert!(passed < size + BESIDE, "{passed} bytes for {size}");
    arrived_once(&registry, &blobs);

    // In one command it begins the cut one anew by itself, and no other.
    let other = Registry::start(&desk.folder().join("other"), &Guard::default()).unwrap();
    let proxy = CutProxy::start(other.host()).unwrap();
    proxy.cut(Direction::ToRegistry, CUT, 1, || ());
    let name = format!("{}/team/demo:v1", proxy.host());
    let pushed = desk.gantry(&format!("push demo:v1 {name} --insecure")).unwrap();
    assert_eq!(pushed.status, Some(0), "{pushed}");
    assert!(pushed.stderr.contains("trying again"), "{pushed}");
    let passed = proxy.passed(Direction::ToRegistry);
    assert!(passed < all + CUT + BESIDE, "{passed} bytes for {all}");
    arrived_once(&other, &blobs);
    desk.gantry_in("there", &format!("pull {name} --insecure"))
        .unwrap()
        .ok()
        .unwrap();
    desk.gantry_in("there", "store check").unwrap().ok().unwrap();
}
