//! What sealer saved is loaded. No save file of sealer is at hand: these are made here, after what is known of its forms.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use gantry_integration::image_desk::ImageDesk;
use gantry_integration::{Host, ImageTree, Testbed};

const BASE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const UPPER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const IMAGE: &str = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// A desk with the trees of two layers in `saved/`, the second of which removes a file of the first.
fn desk_with_layers() -> ImageDesk {
    let desk = ImageDesk::new().unwrap();
    desk.sh(&format!(
        "mkdir -p saved/{BASE}/etc saved/{BASE}/scripts saved/{UPPER}/etc\n\
         echo '{{}}' >saved/{BASE}/etc/daemon.json\n\
         echo old >saved/{BASE}/etc/old.conf\n\
         echo 'echo started' >saved/{BASE}/scripts/init.sh && chmod 755 saved/{BASE}/scripts/init.sh\n\
         ln -s init.sh saved/{BASE}/scripts/start\n\
         mknod saved/{UPPER}/etc/old.conf c 0 0"
    ))
    .unwrap();
    desk
}

fn layers(kind: &str) -> String {
    format!(
        "  layers:\n  - id: sha256:{BASE}\n    type: COPY\n    value: . .\n  - id: sha256:{UPPER}\n    type: RUN\n    \
         value: rm etc/old.conf\n{kind}"
    )
}

/// Loads `saved/` as one archive, and looks at what came of it.
fn load_and_look(desk: &ImageDesk, commands: &[&str]) {
    desk.sh("tar -C saved -cf saved.tar $(ls saved)").unwrap();
    let loaded = desk.gantry("load -i saved.tar").unwrap().ok().unwrap();
    assert!(loaded.starts_with("kubernetes:v1.19.8@sha256:"), "{loaded}");
    let listed = desk.gantry("ls -R kubernetes:v1.19.8").unwrap().ok().unwrap();
    assert!(listed.contains("scripts/start -> init.sh"), "{listed}");
    assert!(!listed.contains("old.conf"), "{listed}");
    let inspected = desk
        .gantry("inspect kubernetes:v1.19.8 -o json")
        .unwrap()
        .ok()
        .unwrap();
    let document: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(document["commands"], serde_json::json!(commands));
    let base = document["layers"][0]["path"].as_str().unwrap();
    desk.sh(&format!("diff --recursive saved/{BASE} {base}")).unwrap();
    let history = desk.gantry("history kubernetes:v1.19.8").unwrap().ok().unwrap();
    assert!(history.contains("RUN rm etc/old.conf"), "{history}");
    // From here on it is an image like every other.
    desk.gantry("save -o again.tar kubernetes:v1.19.8")
        .unwrap()
        .ok()
        .unwrap();
    desk.sh("skopeo inspect oci-archive:again.tar").unwrap();
}

#[test]
fn a_save_file_of_before_0_7_is_loaded() {
    let desk = desk_with_layers();
    let image = format!(
        "kind: Image\nmetadata:\n  name: kubernetes:v1.19.8\nspec:\n  id: {IMAGE}\n{}",
        layers("  - type: CMD\n    value: kubectl apply -f one.yaml\n")
    );
    std::fs::write(desk.folder().join("saved/image_metadata.yaml"), image).unwrap();
    let metadata = format!(r#"{{"name":"kubernetes:v1.19.8","id":"{IMAGE}"}}"#);
    std::fs::write(desk.folder().join("saved/Metadata"), metadata).unwrap();
    load_and_look(&desk, &["kubectl apply -f one.yaml"]);
}

#[test]
fn a_save_file_of_0_8_is_loaded() {
    let desk = desk_with_layers();
    let image = format!(
        "kind: Image\nspec:\n  id: {IMAGE}\n{}",
        layers(
            "  platform:\n    architecture: amd64\n    os: linux\n  image_config:\n    cmd:\n      parent:\n      - echo base\n      \
             current:\n      - helm install web charts/web --set n=${N}\n    args:\n      current:\n        N: \"2\"\n"
        )
    );
    std::fs::write(desk.folder().join(format!("saved/{IMAGE}.yaml")), image).unwrap();
    let metadata = format!(
        r#"{{"kubernetes:v1.19.8":{{"manifests":[{{"id":"{IMAGE}","platform":{{"architecture":"amd64","os":"linux"}}}}]}}}}"#
    );
    std::fs::write(desk.folder().join("saved/Metadata"), metadata).unwrap();
    load_and_look(&desk, &["echo base", "helm install web charts/web --set n=${N}"]);
    let env = desk
        .gantry("inspect -f {{.Env}} kubernetes:v1.19.8")
        .unwrap()
        .ok()
        .unwrap();
    assert_eq!(env.trim(), "[N=2]");
}

#[test]
fn hosts_get_what_sealer_saved_before_0_7_and_run_its_scripts() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let saved = operator.desk().join("saved");
    ImageTree::with_scripts(&saved.join(BASE))
        .unwrap()
        .file("etc/old.conf", "old")
        .unwrap();
    let image = format!(
        "kind: Image\nmetadata:\n  name: kubernetes:v1.19.8\nspec:\n  id: {IMAGE}\n{}",
        layers("  - type: CMD\n    value: echo launched >>/var/log/scripts\n")
    );
    operator.put("saved/image_metadata.yaml", image).unwrap();
    let metadata = format!(r#"{{"name":"kubernetes:v1.19.8","id":"{IMAGE}"}}"#);
    operator.put("saved/Metadata", metadata).unwrap();
    let made = operator
        .shell(&format!(
            "mkdir -p saved/{UPPER}/etc && mknod saved/{UPPER}/etc/old.conf c 0 0\n\
             rm -f saved/{BASE}/Kubefile && tar -C saved -cf saved.tar $(ls saved)"
        ))
        .status()
        .unwrap();
    assert!(made.success());
    operator.must("load -i saved.tar").unwrap();
    // As its users have it: sealer's first version of Clusterfiles.
    let (master, worker) = (bed.host(1), bed.host(2));
    operator
        .put(
            "Clusterfile",
            format!(
                "apiVersion: zlink.aliyun.com/v1alpha1\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  \
                 image: kubernetes:v1.19.8\n  provider: BAREMETAL\n  masters: {{ ipList: [ {} ] }}\n  nodes: {{ ipList: [ {} ] }}\n",
                master.address(),
                worker.address()
            ),
        )
        .unwrap();
    operator.apply().unwrap().ok().unwrap();
    let ran = |host: &Host| host.must("grep -v registry /var/log/scripts").unwrap();
    let scripts =
        "init.sh /var/lib/docker sea.hub 5000\ndocker.sh /var/lib/docker sea.hub 5000\ninit-kube.sh \n";
    assert_eq!(ran(master), format!("{scripts}launched\n"));
    assert_eq!(ran(worker), scripts);
    for host in bed.hosts() {
        let rootfs = "/var/lib/sealer/data/demo/rootfs";
        host.must(&format!(
            "test -e {rootfs}/etc/daemon.json && ! test -e {rootfs}/etc/old.conf"
        ))
        .unwrap();
    }
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        (again.received_bytes(), again.steps()),
        (0, 0),
        "{}",
        again.finished
    );
}

#[test]
fn a_list_of_0_9_is_loaded_for_every_platform() {
    let desk = desk_with_layers();
    std::fs::write(desk.folder().join("saved/Kubefile"), "FROM scratch\nCOPY . .\n").unwrap();
    desk.sh(&format!("rm -r saved/{UPPER} && mkdir list")).unwrap();
    for (platform, id) in [("amd64", BASE), ("arm64", UPPER)] {
        for words in [
            format!("build -t demo:{platform} --platform linux/{platform} saved"),
            format!("save -o list/{id}.tar demo:{platform}"),
        ] {
            desk.gantry(&words).unwrap().ok().unwrap();
        }
    }
    desk.sh("echo docker.io/library/demo:v2 >list/Metadata && tar -C list -cf list.tar $(ls list)")
        .unwrap();
    let loaded = desk.gantry_in("there", "load list.tar").unwrap().ok().unwrap();
    assert!(
        loaded.starts_with("docker.io/library/demo:v2@sha256:"),
        "{loaded}"
    );
    for platform in ["amd64", "arm64"] {
        let said = desk
            .gantry_in(
                "there",
                &format!("inspect --platform linux/{platform} -f {{{{.Architecture}}}} demo:v2"),
            )
            .unwrap();
        assert_eq!(said.ok().unwrap().trim(), platform);
    }
}
