//! What the operator's store and the hosts' disks have: a changed byte of it is refused before it has an effect on any host, and what is
//! being applied stays, whatever is removed meanwhile.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use gantry_integration::{
    Applied, Finished, Host, ImageTree, Operator, Snapshot, Testbed, image_tree::note, wait_until,
};
use gantry_model::LayerDescriptor;
use gantry_store::{Image, Store};

const LIMIT: Duration = Duration::from_secs(60);

/// What a host changes by itself, and where layers come to lie that are whole, and others that are not yet.
const OWN_CHANGES: [&str; 5] = [
    "/var/lib/gantry/agent",
    "/var/lib/gantry/data",
    "/var/lib/gantry/store",
    "/etc/machine-id",
    "/var/lib/dbus",
];

/// One byte of a file of the operator's store.
struct Byte {
    what: &'static str,
    path: PathBuf,
    at: u64,
}

impl Byte {
    /// Makes it another one; the same again makes it what it was.
    fn flip(&self) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], self.at).unwrap();
    }
}

fn image(operator: &Operator, name: &str) -> (Store, Image) {
    let store = Store::open(operator.root()).unwrap();
    let image = store.image(&name.parse().unwrap()).unwrap();
    (store, image)
}

/// The layer with the large file.
fn large_layer(image: &Image) -> &LayerDescriptor {
    image.layers.iter().max_by_key(|layer| layer.size).unwrap()
}

/// A byte of everything that says what `demo:v1` is made of.
fn around_the_files(operator: &Operator) -> Vec<Byte> {
    let (store, image) = image(operator, "demo:v1");
    let layer = large_layer(&image);
    let byte = |what, digest, at| Byte {
        what,
        path: store.blobs().path(digest),
        at,
    };
    let toc = layer.toc.offset + layer.toc.compressed_len / 2;
    // Of the first number in it, which says where the table is (72 bytes, `common/store/src/layer_writer/footer.rs`).
    let footer = layer.size - 72 + 8;
    vec![
        byte("manifest", &image.manifest_digest, 30),
        byte("config", &image.config_digest, 30),
        byte("table of contents", &layer.digest, toc),
        byte("footer", &layer.digest, footer),
    ]
}

/// A byte of the large file as it travels.
fn of_the_large_file(operator: &Operator, name: &str) -> Byte {
    let (store, image) = image(operator, name);
    Byte {
        what: "file",
        path: store.blobs().path(&large_layer(&image).digest),
        at: 1 << 20,
    }
}

fn refused(applied: &Finished, what: &str) {
    assert_eq!(applied.status, Some(6), "{what}: {applied}");
}

#[test]
fn a_changed_byte_is_refused_before_any_effect_and_a_removed_image_stays_while_it_is_applied() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    // It waits as long as the test says so; the sleep only keeps a waiting script from using up a core.
    let wait = "while [ -e /root/wait ]; do sleep 0.1; done\n";
    ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .script("init.sh", &format!("{}{wait}", note("init.sh")))
        .unwrap()
        .incompressible("cri/big", 3 << 20, 1)
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    // The same as layers that are not chunked: what travels is a form of them that was made here.
    operator
        .must("save --format docker-archive -o plain.tar demo:v1")
        .unwrap();
    operator.must("load -t demo:plain plain.tar").unwrap();
    operator.must("sign demo:plain").unwrap();
    let hosts = [bed.host(1), bed.host(2)];
    let before = hosts.map(|host| Snapshot::of(host, &OWN_CHANGES).unwrap());
    let unchanged = || {
        for (host, before) in hosts.iter().zip(&before) {
            let changes = Snapshot::of(host, &OWN_CHANGES).unwrap().changes_since(before);
            assert_eq!(changes, Vec::<String>::new(), "{}", host.name());
            let cluster = host.run("test -e /var/lib/gantry/data/demo").unwrap();
            assert!(!cluster.succeeded(), "{} has a rootfs", host.name());
        }
    };

    operator.clusterfile("demo:v1", &hosts).unwrap();
    for byte in around_the_files(operator) {
        byte.flip();
        let applied = operator.gantry("apply -f Clusterfile -y").unwrap();
        refused(&applied, byte.what);
        assert!(
            !applied.stderr.contains("failed on"),
            "no host was asked: {applied}"
        );
        byte.flip();
    }
    for name in ["demo:v1", "demo:plain"] {
        let byte = of_the_large_file(operator, name);
        byte.flip();
        operator.clusterfile(name, &hosts).unwrap();
        let applied = operator.gantry("apply -f Clusterfile -y").unwrap();
        refused(&applied, name);
        for words in [
            "cri/big",
            "Reading layer",
            "The store of this machine is damaged",
            byte.path.to_str().unwrap(),
            &format!("gantry rmi {name}"),
        ] {
            assert!(applied.stderr.contains(words), "{words:?}: {applied}");
        }
        byte.flip();
    }
    unchanged();

    // Where one of the hosts has the layers, the other one is not "some hosts": it is this machine that is damaged.
    operator.clusterfile("demo:v1", &hosts[..1]).unwrap();
    operator.must("stage -f Clusterfile").unwrap();
    operator.clusterfile("demo:v1", &hosts).unwrap();
    let byte = of_the_large_file(operator, "demo:v1");
    byte.flip();
    refused(&operator.gantry("stage -f Clusterfile").unwrap(), "stage");
    refused(&operator.gantry("apply -f Clusterfile -y").unwrap(), "apply");
    for host in hosts {
        assert!(!host.run("cat /var/log/scripts").unwrap().succeeded());
    }
    byte.flip();

    // It is whole again, and removed while it is being applied.
    for host in hosts {
        host.must("touch /root/wait").unwrap();
    }
    let apply = operator.start_apply().unwrap();
    wait_until("the scripts wait", LIMIT, || {
        let waits = |host: &&Host| host.run("cat /var/log/scripts").is_ok_and(|log| log.succeeded());
        Ok(hosts.iter().all(waits).then_some(()))
    })
    .unwrap();
    let removed = operator.gantry("rmi demo:v1 demo:plain").unwrap();
    assert_eq!(removed.status, Some(0), "{removed}");
    assert!(
        removed
            .stderr
            .contains("demo:v1: the name is gone, its space is not free yet: another command uses the store"),
        "{removed}"
    );
    let refused = operator.gantry("prune").unwrap();
    assert_eq!(refused.status, Some(8), "{refused}");
    assert!(byte.path.exists());
    for host in hosts {
        host.must("rm /root/wait").unwrap();
    }
    Applied::read(apply.finish(LIMIT).unwrap()).ok().unwrap();
    operator.must("prune").unwrap();
    assert!(!byte.path.exists());
}

/// The large file in the folder of its layer.
const IN_LAYER: &str = "/var/lib/gantry/data/overlay2/*/cri/big";

/// Changes some bytes of the large file on a host's disk, and leaves the file its time.
fn change(host: &Host) {
    host.must(&format!(
        "file=$(echo {IN_LAYER}) && touch -r $file /run/before && \
         printf 'other bytes' | dd of=$file bs=1 seek=1500000 conv=notrunc status=none && touch -r /run/before $file"
    ))
    .unwrap();
}

#[test]
fn bytes_changed_on_a_hosts_disk_are_refused_before_any_effect_and_travel_again() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    ImageTree::with_scripts(&operator.desk().join("image"))
        .unwrap()
        .incompressible("cri/big", 3 << 20, 1)
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let hosts = [bed.host(1), bed.host(2)];
    operator.clusterfile("demo:v1", &hosts).unwrap();
    operator.must("stage -f Clusterfile").unwrap();
    change(hosts[1]);

    let before = hosts.map(|host| Snapshot::of(host, &OWN_CHANGES).unwrap());
    let applied = operator.gantry("apply -f Clusterfile -y").unwrap();
    refused(&applied, "changed after it was staged");
    let (_, image) = image(operator, "demo:v1");
    let layer = format!(
        "layer {}, cri/big: its bytes 1048576 to",
        large_layer(&image).digest.short()
    );
    for words in [
        hosts[1].address().to_string().as_str(),
        &layer,
        "run the same command again",
    ] {
        assert!(applied.stderr.contains(words), "{words:?}: {applied}");
    }
    for (host, before) in hosts.iter().zip(&before) {
        let changes = Snapshot::of(host, &OWN_CHANGES).unwrap().changes_since(before);
        assert_eq!(changes, Vec::<String>::new(), "{}", host.name());
        host.must("! test -e /var/lib/gantry/data/demo && ! test -e /var/log/scripts")
            .unwrap();
    }

    let again = operator.apply().unwrap().ok().unwrap();
    let received = again.received_bytes();
    assert!(
        (1..(1 << 20) + 4096).contains(&received),
        "one chunk travels: {received}"
    );
    assert!(again.steps_on(hosts[1]).contains(&"init.sh".to_owned()));
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // A rootfs is mounted on it by now: what runs there goes on, and the same file has the right bytes again.
    let in_rootfs = "sha256sum </var/lib/gantry/data/demo/rootfs/cri/big";
    let right = hosts[1].must(in_rootfs).unwrap();
    change(hosts[0]);
    assert_ne!(hosts[0].must(in_rootfs).unwrap(), right);
    refused(&operator.gantry("apply -f Clusterfile -y").unwrap(), "in use");
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(again.steps_on(hosts[0]), ["stage"], "{}", again.finished);
    assert_eq!(hosts[0].must(in_rootfs).unwrap(), right);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
