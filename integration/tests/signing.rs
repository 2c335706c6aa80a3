//! A host takes the images that its own policy accepts, whatever the orchestrator says: with the policy that is installed, those that
//! the orchestrator signed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;

use gantry_integration::registry::{Guard, Registry};
use gantry_integration::{Finished, Host, ImageTree, Operator, Snapshot, Testbed};
use gantry_model::{Digest, ImageSignature};
use gantry_store::Store;

/// What a host changes by itself: the agent's own notes, and what this test puts there.
const OWN_CHANGES: [&str; 3] = ["/var/lib/gantry/agent", "/etc/machine-id", "/var/lib/dbus"];

/// Two hosts; the first wants images of `demo` signed by a release key, the other one has the policy that came with the package.
/// The image is not signed by anybody.
fn bed_with_policy() -> Testbed {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    operator.must("build --no-sign -t demo:v1 image").unwrap();
    operator.must("keys generate -o release").unwrap();
    operator.must("keys generate -o other --type ed25519").unwrap();
    operator
        .clusterfile("demo:v1", &[bed.host(1), bed.host(2)])
        .unwrap();
    let host = bed.host(1);
    host.must("test -s /etc/gantry/policy.json && mkdir -p /etc/gantry/keys")
        .unwrap();
    let public = std::fs::read_to_string(operator.desk().join("release.pub")).unwrap();
    write(host, "/etc/gantry/keys/release.pub", &public);
    write(
        host,
        "/etc/gantry/policy.json",
        r#"{
  "default": [{"type": "reject"}],
  "transports": {"docker": {
    "demo": [{"type": "sigstoreSigned", "keyPath": "/etc/gantry/keys/release.pub"}]
  }}
}
"#,
    );
    bed
}

fn write(host: &Host, path: &str, text: &str) {
    host.must(&format!("cat >{path} <<'END'\n{text}END")).unwrap();
}

/// The image that `name` leads to at the operator.
fn image(operator: &Operator, name: &str) -> Digest {
    let store = Store::open(operator.root()).unwrap();
    store.target(&name.parse().unwrap()).unwrap().digest
}

fn refused(finished: &Finished, host: &Host, reason: &str) {
    assert_eq!(finished.status, Some(6), "{finished}");
    let line = finished
        .stderr
        .lines()
        .find(|line| line.contains("signature") && line.contains(&host.address().to_string()));
    let line = line.unwrap_or_else(|| panic!("no line for {}: {finished}", host.address()));
    assert!(
        line.contains("demo:v") && line.contains(reason) && line.contains("/etc/gantry/policy.json"),
        "{reason}: {finished}"
    );
    assert!(finished.stderr.contains("nothing was changed"), "{finished}");
    assert!(finished.stderr.contains("gantry sign --key"), "{finished}");
}

fn snapshots(bed: &Testbed) -> Vec<Snapshot> {
    let hosts = bed.hosts().iter();
    hosts
        .map(|host| Snapshot::of(host, &OWN_CHANGES).unwrap())
        .collect()
}

fn unchanged(bed: &Testbed, before: &[Snapshot]) {
    for (host, before) in bed.hosts().iter().zip(before) {
        let changes = Snapshot::of(host, &OWN_CHANGES).unwrap().changes_since(before);
        assert_eq!(changes, Vec::<String>::new(), "{}", host.name());
    }
}

#[test]
fn with_the_policy_that_is_installed_what_is_built_here_goes_and_what_comes_from_elsewhere_is_signed_first() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let hosts = [bed.host(1), bed.host(2)];
    let tree = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    tree.file("etc/tool", "one\n").unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    // The same as others have it: layers of gzip in a registry, and nobody's signature.
    operator
        .must("save --format docker-archive -o plain.tar demo:v1")
        .unwrap();
    let registry = Registry::start(&operator.desk().join("registry"), &Guard::default()).unwrap();
    let elsewhere = format!("{}/team/demo:v1", registry.host());
    // Where the operator works there is no way to it.
    let carried = Command::new("sh")
        .args([
            "-ec",
            &format!(
                "skopeo copy --quiet --insecure-policy --dest-tls-verify=false docker-archive:plain.tar docker://{elsewhere}\n\
                 {} pull --insecure {elsewhere}",
                operator.program().display()
            ),
        ])
        .env("GANTRY_ROOT", operator.root())
        .current_dir(operator.desk())
        .status()
        .unwrap();
    assert!(carried.success());
    operator.clusterfile(&elsewhere, &hosts).unwrap();
    let before = snapshots(&bed);
    for command in [
        "plan -f Clusterfile",
        "stage -f Clusterfile",
        "apply -f Clusterfile -y",
    ] {
        let refused = operator.gantry(command).unwrap();
        assert_eq!(refused.status, Some(6), "{refused}");
        let lines: Vec<_> = refused
            .stderr
            .lines()
            .filter(|line| line.contains("it is not signed"))
            .collect();
        assert_eq!(lines.len(), 1, "one line for both: {refused}");
        assert!(lines[0].contains(&elsewhere), "{refused}");
        for words in [
            "2 of 2 hosts",
            "nothing was changed",
            &format!("`gantry sign {elsewhere}`"),
        ] {
            assert!(refused.stderr.contains(words), "{words}: {refused}");
        }
    }
    unchanged(&bed, &before);
    operator.must(&format!("sign {elsewhere}")).unwrap();
    operator.apply().unwrap().ok().unwrap();
    for host in hosts {
        host.must("test -s /var/log/scripts && test -e /var/lib/sealer/data/demo/rootfs/etc/tool")
            .unwrap();
    }
    // What is built here goes by itself.
    operator.clusterfile("demo:v1", &hosts).unwrap();
    operator.apply().unwrap().ok().unwrap();
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!((again.received_bytes(), again.steps()), (0, 0));
}

#[test]
fn a_host_takes_what_its_policy_accepts_and_nothing_else() {
    let bed = bed_with_policy();
    let (operator, host) = (bed.operator(), bed.host(1));
    let before = snapshots(&bed);
    let unchanged = || unchanged(&bed, &before);

    // Not signed; and by a key that the host does not know.
    for command in [
        "stage -f Clusterfile",
        "apply -f Clusterfile -y",
        "plan -f Clusterfile",
    ] {
        refused(&operator.gantry(command).unwrap(), host, "it is not signed");
    }
    operator.must("sign --key other.key demo:v1").unwrap();
    let other = operator.gantry("apply -f Clusterfile -y").unwrap();
    refused(
        &other,
        host,
        "its signature is not by key /etc/gantry/keys/release.pub",
    );
    unchanged();

    // Signed by the right key, as something else.
    operator
        .must("sign --key release.key --as tools demo:v1")
        .unwrap();
    let renamed = operator.gantry("apply -f Clusterfile -y").unwrap();
    refused(&renamed, host, "but as \"tools\"");
    unchanged();

    operator.must("sign --key release.key demo:v1").unwrap();
    let installed = operator.gantry("apply -f Clusterfile -y").unwrap();
    let said = "none of its 3 signatures is by key /var/lib/gantry/agent/image-keys.pem";
    refused(&installed, bed.host(2), said);
    unchanged();
    operator.must("sign demo:v1").unwrap();
    operator.apply().unwrap().ok().unwrap();
    for host in bed.hosts() {
        host.must("test -s /var/log/scripts").unwrap();
    }
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!((again.received_bytes(), again.steps()), (0, 0));
}

#[test]
fn a_signature_of_another_image_or_with_a_changed_byte_is_refused() {
    let bed = bed_with_policy();
    let (operator, host) = (bed.operator(), bed.host(1));
    operator.must("sign --key release.key demo:v1").unwrap();
    let store = Store::open(operator.root()).unwrap();
    let good = store.signatures(&image(operator, "demo:v1")).unwrap().remove(0);
    // Which an orchestrator that means harm could show.
    let show = |number: usize, signature: &ImageSignature| {
        let name = format!("demo:v{number}");
        let content = format!("{{\"number\": {number}}}\n");
        ImageTree::with_scripts(&operator.desk().join("image"))
            .unwrap()
            .file("etc/daemon.json", content)
            .unwrap();
        operator
            .must(&format!("build --no-sign -t {name} image"))
            .unwrap();
        operator.clusterfile(&name, &[bed.host(1), bed.host(2)]).unwrap();
        store.add_signature(&image(operator, &name), signature).unwrap();
        operator.gantry("apply -f Clusterfile -y").unwrap()
    };
    refused(&show(2, &good), host, "is over another image");

    // The payload names the right image, and the signature is not over it.
    let wanted = image(operator, "demo:v2").to_string();
    let text = String::from_utf8(good.payload.clone()).unwrap();
    let signed = image(operator, "demo:v1").to_string();
    let mut changed = good.clone();
    changed.payload = text.replace(&signed, &wanted).into_bytes();
    store
        .add_signature(&image(operator, "demo:v2"), &changed)
        .unwrap();
    let finished = operator.gantry("apply -f Clusterfile -y").unwrap();
    refused(&finished, host, "is over another image");
    let mut flipped = good;
    flipped.signature[20] ^= 1;
    refused(&show(3, &flipped), host, "its signature is not by key");
    for host in bed.hosts() {
        assert!(!host.run("ls -d /var/lib/gantry/data/*").unwrap().succeeded());
    }

    // A policy that cannot be read accepts nothing, and says where.
    operator.must("sign --key release.key demo:v3").unwrap();
    operator.must("sign demo:v3").unwrap();
    host.must("sed -i s/sigstoreSigned/sigstoreSined/ /etc/gantry/policy.json")
        .unwrap();
    let broken = operator.gantry("apply -f Clusterfile -y").unwrap();
    assert_eq!(broken.status, Some(6), "{broken}");
    assert!(
        broken.stderr.contains("/etc/gantry/policy.json:4:")
            && broken.stderr.contains("did you mean \"sigstoreSigned\"?"),
        "{broken}"
    );
    host.must("sed -i s/sigstoreSined/sigstoreSigned/ /etc/gantry/policy.json")
        .unwrap();
    operator.apply().unwrap().ok().unwrap();
}
