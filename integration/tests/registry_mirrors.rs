//! Two real registries, one of them a mirror of the other, and a `registries.conf` that podman and skopeo read, too.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::TcpListener;

use gantry_integration::ImageTree;
use gantry_integration::image_desk::ImageDesk;
use gantry_integration::registry::{Guard, Registry};

/// A name that leads nowhere: it is all in `registries.conf`.
const NAME: &str = "hub.test/team/demo";

struct Mirrored {
    desk: ImageDesk,
    origin: Registry,
    mirror: Registry,
}

impl Mirrored {
    /// The image `v1` is in both registries, `v2` in the origin alone; other names there are.
    fn start() -> Self {
        let desk = ImageDesk::new().unwrap();
        let start = |name: &str| Registry::start(&desk.folder().join(name), &Guard::default()).unwrap();
        let (origin, mirror) = (start("origin"), start("mirror"));
        let mirrored = Self { desk, origin, mirror };
        mirrored.conf("", "insecure = true");
        for tag in ["v1", "v2"] {
            ImageTree::at(&mirrored.desk.folder().join(tag))
                .unwrap()
                .incompressible("bin/kubelet", 100_000, tag.len() as u64)
                .unwrap()
                .file("etc/version", tag)
                .unwrap();
            mirrored.must("root", &format!("build -t {NAME}:{tag} {tag}"));
            // No `--insecure`: the file says it. And what is pushed goes to the origin.
            mirrored.must("root", &format!("push {NAME}:{tag}"));
        }
        assert_eq!(mirrored.mirror.requests("PUT", "").unwrap(), 0);
        mirrored
            .desk
            .sh(&format!(
                "skopeo copy --quiet --src-tls-verify=false --dest-tls-verify=false \
                 docker://{}/moved/team/demo:v1 docker://{}/hub/team/demo:v1",
                mirrored.origin.host(),
                mirrored.mirror.host()
            ))
            .unwrap();
        mirrored
    }

    /// Writes `registries.conf`, with more about the registry and about its mirror.
    fn conf(&self, registry: &str, mirror: &str) {
        let text = format!(
            "[[registry]]\nprefix = \"hub.test\"\nlocation = \"{}/moved\"\ninsecure = true\n{registry}\n\
             [[registry.mirror]]\nlocation = \"{}/hub\"\n{mirror}\n",
            self.origin.host(),
            self.mirror.host()
        );
        std::fs::write(self.desk.folder().join("etc/registries.conf"), text).unwrap();
    }

    fn must(&self, root: &str, words: &str) -> String {
        self.desk.gantry_in(root, words).unwrap().ok().unwrap()
    }

    /// What is asked of the origin and of the mirror while `work` is done: manifests and blobs.
    fn asked<T>(&self, work: impl FnOnce() -> T) -> (T, usize, usize) {
        let count = |registry: &Registry| {
            let manifests = registry.requests("GET", "/manifests/").unwrap();
            manifests + registry.requests("GET", "/blobs/").unwrap()
        };
        let before = (count(&self.origin), count(&self.mirror));
        let done = work();
        (
            done,
            count(&self.origin) - before.0,
            count(&self.mirror) - before.1,
        )
    }
}

#[test]
fn a_mirror_is_asked_first_and_the_origin_when_it_cannot_help() {
    let mirrored = Mirrored::start();
    let gantry = |root: &str, words: &str| mirrored.desk.gantry_in(root, words).unwrap();
    let (pulled, origin, mirror) = mirrored.asked(|| gantry("first", &format!("pull {NAME}:v1")));
    let digest = pulled.ok().unwrap();
    assert!(origin == 0 && mirror >= 3, "{origin} {mirror}");
    // The others understand the file in the same way.
    let seen = format!(
        "skopeo --registries-conf etc/registries.conf inspect --no-tags --format '{{{{.Digest}}}}' docker://{NAME}:v1"
    );
    let (seen, origin, mirror) = mirrored.asked(|| mirrored.desk.sh(&seen).unwrap());
    assert!(digest.contains(seen.trim()), "{seen}");
    assert!(origin == 0 && mirror >= 1, "{origin} {mirror}");

    // What the mirror lacks the origin has.
    let (pulled, origin, mirror) = mirrored.asked(|| gantry("first", &format!("pull {NAME}:v2")));
    assert_eq!(pulled.status, Some(0), "{pulled}");
    assert!(pulled.stderr.contains("asking the next one"), "{pulled}");
    assert!(origin >= 3 && mirror == 1, "{origin} {mirror}");
    let version = mirrored.must("first", &format!("cat {NAME}:v2 etc/version"));
    assert_eq!(version, "v2");
    let nowhere = gantry("first", &format!("pull {NAME}:v3"));
    assert_eq!(nowhere.status, Some(2), "{nowhere}");

    // A name outside the prefix has no mirror.
    let outside = format!("{}/moved/team/demo:v1", mirrored.origin.host());
    let (_, origin, mirror) =
        mirrored.asked(|| mirrored.must("outside", &format!("pull {outside} --insecure")));
    assert!(origin >= 3 && mirror == 0, "{origin} {mirror}");

    // One that is not there is passed over at once: nobody waits for it to come back.
    let Mirrored {
        desk,
        origin: _still_there,
        mirror,
    } = mirrored;
    let address = mirror.host().to_owned();
    drop(mirror);
    let pulled = desk.gantry_in("third", &format!("pull {NAME}:v1")).unwrap();
    assert_eq!(pulled.clone().ok().unwrap(), digest);
    assert!(
        pulled
            .stderr
            .contains(&format!("cannot reach registry {address}"))
            && pulled.stderr.contains("asking the next one"),
        "{pulled}"
    );
    assert!(!pulled.stderr.contains("trying again"), "{pulled}");
    // The same when something listens there that says nothing to the end.
    let deaf = TcpListener::bind(&address).unwrap();
    let hangs_up = std::thread::spawn(move || deaf.incoming().take(2).for_each(drop));
    let pulled = desk.gantry_in("fourth", &format!("pull {NAME}:v1")).unwrap();
    assert_eq!(pulled.clone().ok().unwrap(), digest);
    assert!(!pulled.stderr.contains("trying again"), "{pulled}");
    hangs_up.join().unwrap();
}

#[test]
fn a_mirror_is_asked_as_registries_conf_has_it() {
    let mirrored = Mirrored::start();
    let gantry = |root: &str, words: &str| mirrored.desk.gantry_in(root, words).unwrap();
    let digest = mirrored.must("root", &format!("inspect -f {{{{.Digest}}}} {NAME}:v1"));
    let (by_tag, by_digest) = (format!("{NAME}:v1"), format!("{NAME}@{}", digest.trim()));
    let mut stores = 0;
    let mut from_mirror = |name: &str| {
        stores += 1;
        let store = format!("store-{stores}");
        let (_, origin, mirror) = mirrored.asked(|| mirrored.must(&store, &format!("pull {name}")));
        assert!((origin == 0) != (mirror == 0), "{name}: {origin} {mirror}");
        mirror > 0
    };
    for (registry, mirror, tags, digests) in [
        ("", "insecure = true\npull-from-mirror = \"all\"", true, true),
        (
            "",
            "insecure = true\npull-from-mirror = \"digest-only\"",
            false,
            true,
        ),
        (
            "",
            "insecure = true\npull-from-mirror = \"tag-only\"",
            true,
            false,
        ),
        ("mirror-by-digest-only = true", "insecure = true", false, true),
    ] {
        mirrored.conf(registry, mirror);
        assert_eq!(from_mirror(&by_tag), tags, "{registry} {mirror}");
        assert_eq!(from_mirror(&by_digest), digests, "{registry} {mirror}");
    }

    // Insecure is who is said to be: this one speaks no TLS and is not asked in clear text.
    mirrored.conf("", "");
    let pull = || gantry("secure", &format!("pull {by_tag}"));
    let (pulled, origin, mirror) = mirrored.asked(pull);
    assert_eq!(pulled.status, Some(0), "{pulled}");
    assert!(pulled.stderr.contains("does not speak TLS"), "{pulled}");
    assert!(origin >= 3 && mirror == 0, "{origin} {mirror}");

    mirrored.conf("blocked = true", "insecure = true");
    for words in [format!("pull {by_tag}"), format!("push {by_tag}")] {
        let (refused, origin, mirror) = mirrored.asked(|| gantry("root", &words));
        assert_eq!(refused.status, Some(3), "{refused}");
        assert!(
            refused.stderr.contains("is blocked by") && refused.stderr.contains("registries.conf"),
            "{refused}"
        );
        assert_eq!((origin, mirror), (0, 0), "{refused}");
    }
}
