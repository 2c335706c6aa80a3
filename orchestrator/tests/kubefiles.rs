//! Kubefiles of every era of sealer, and what docker's users write: built by the real binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use desk::*;

/// What the image says about itself to sealer.
fn extension(desk: &Desk, image: &str) -> Value {
    let manifest = desk.json(&["inspect", "--no-unpack", "-o", "json", image])["manifest"].clone();
    let text = manifest["annotations"]["sealer.image.extension"]
        .as_str()
        .unwrap();
    serde_json::from_str(text).unwrap()
}

fn commands(desk: &Desk, image: &str) -> Value {
    desk.json(&["inspect", "--no-unpack", "-o", "json", image])["commands"].clone()
}

/// A context with a chart, a network, scripts and plain YAML.
fn applications(desk: &Desk) {
    for file in ["Chart.yaml", "values.yaml.tmpl", "templates/web.yaml"] {
        desk.file(&format!("apps/charts/web/{file}"), "x: 1\n");
    }
    desk.file("apps/calico/operator.yaml", "kind: Namespace\n");
    desk.file("apps/calico/crs/calico.yml", "kind: Installation\n");
    desk.file("apps/up.sh", "kubectl get nodes\n");
    desk.file("apps/odd.txt", "?");
}

#[test]
fn applications_are_laid_into_the_image_and_launched() {
    let desk = Desk::new();
    applications(&desk);
    desk.file(
        "apps/Kubefile",
        "FROM scratch\n\
         ENV Domain=example.org\n\
         CNI calico local://calico\n\
         APP web local://charts/web\n\
         APP scripts local://up.sh\n\
         APP odd local://odd.txt\n\
         APPENV web Replicas=2\n\
         APPCMDS odd [\"cat\", \"odd.txt\"]\n\
         LAUNCH [\"calico\", \"web\", \"scripts\", \"odd\"]\n",
    );
    desk.ok(&["build", "-t", "apps:1", "--type", "app-installer", "apps"]);
    assert_eq!(
        commands(&desk, "apps:1"),
        json!([
            "kubectl apply -f application/apps/calico/crs/calico.yml && kubectl apply -f application/apps/calico/operator.yaml",
            "export Replicas=2 && helm upgrade --install web application/apps/web/",
            "bash application/apps/scripts/up.sh",
            "cd application/apps/odd/ && cat odd.txt",
        ])
    );
    assert_eq!(
        desk.ok(&["cat", "apps:1", "application/apps/web/templates/web.yaml"]),
        "x: 1\n"
    );
    let extension = extension(&desk, "apps:1");
    assert_eq!(extension["type"], "app-installer");
    assert_eq!(extension["schemaVersion"], "v1alpha1");
    assert_eq!(extension["env"], json!({ "Domain": "example.org" }));
    assert_eq!(
        extension["labels"],
        json!({ "cluster.alpha.sealer.io/kube-cni-calico": "true" })
    );
    assert_eq!(
        extension["launch"]["app_names"],
        json!(["calico", "web", "scripts", "odd"])
    );
    assert_eq!(
        extension["applications"][1],
        json!({ "name": "web", "type": "helm", "version": "v1", "env": { "Replicas": "2" } })
    );
    let shown = desk.ok(&["inspect", "--no-unpack", "apps:1"]);
    assert!(shown.contains("App        web (helm)"), "{shown}");

    // What is built on it may launch what it brought, instead and again.
    desk.file("more/db.sh", "true\n");
    desk.file(
        "more/Kubefile",
        "FROM apps:1\nAPP db local://db.sh\nAPPENV web Replicas=3\nLAUNCH db web\n",
    );
    desk.ok(&["build", "-t", "more:1", "more"]);
    assert_eq!(
        commands(&desk, "more:1"),
        json!([
            "bash application/apps/db/db.sh",
            "export Replicas=3 && helm upgrade --install web application/apps/web/"
        ])
    );
    desk.file("more/Kubefile", "FROM apps:1\nCOPY db.sh scripts/\n");
    desk.ok(&["build", "-t", "more:2", "more"]);
    assert_eq!(commands(&desk, "more:2"), commands(&desk, "apps:1"));
    desk.file("more/Kubefile", "FROM apps:1\nAPP web local://db.sh\nCMD true\n");
    desk.ok(&["build", "-t", "more:3", "more"]);
    assert_eq!(
        commands(&desk, "more:3").as_array().unwrap().last().unwrap(),
        "true"
    );
    assert!(
        desk.fails(2, &["cat", "more:3", "application/apps/web/Chart.yaml"])
            .contains("Chart.yaml"),
        "another application of that name takes the folder for itself"
    );

    let error = {
        desk.file(
            "more/Kubefile",
            "FROM apps:1\nAPP odd local://Kubefile\nLAUNCH odd wbe\n",
        );
        desk.fails(2, &["build", "-t", "more:4", "more"])
    };
    assert!(
        error.contains("Kubefile:3:12") && error.contains("did you mean web?"),
        "{error}"
    );
    desk.file(
        "more/Kubefile",
        "FROM apps:1\nAPP odd local://Kubefile\nLAUNCH odd\n",
    );
    let error = desk.fails(2, &["build", "-t", "more:4", "more"]);
    assert!(error.contains("nothing says how odd is launched"), "{error}");
    assert!(error.contains("APPCMDS odd"), "{error}");
}

#[test]
fn blanks_around_from_a_storage_and_the_last_word_of_an_application() {
    let desk = Desk::new();
    applications(&desk);
    desk.file(
        "apps/Kubefile",
        "  FROM   scratch \t\n\
         CSI disks local://calico/operator.yaml\n\
         APP web local://charts/web\n\
         APPENV web key1=a key2=b key3=c\n\
         APPENV web key1=value3 key2=value3\n\
         LAUNCH disks web\n",
    );
    desk.ok(&["build", "-t", "apps:1", "apps"]);
    let extension = extension(&desk, "apps:1");
    assert_eq!(
        extension["labels"],
        json!({ "cluster.alpha.sealer.io/kube-csi-disks": "true" })
    );
    assert_eq!(extension["launch"]["app_names"], json!(["disks", "web"]));
    assert_eq!(
        extension["applications"][1]["env"],
        json!({ "key1": "value3", "key2": "value3", "key3": "c" })
    );
    assert_eq!(
        commands(&desk, "apps:1"),
        json!([
            "kubectl apply -f application/apps/disks/operator.yaml",
            "export key1=value3 key2=value3 key3=c && helm upgrade --install web application/apps/web/",
        ])
    );
    assert_eq!(
        desk.ok(&[
            "inspect",
            "-f",
            "{{index .Labels \"cluster.alpha.sealer.io/kube-csi-disks\"}}",
            "apps:1"
        ]),
        "true\n"
    );
}

#[test]
fn annotations_go_on_from_image_to_image_and_through_archives() {
    let (desk, there) = (Desk::new(), Desk::new());
    applications(&desk);
    desk.file(
        "apps/registry/docker/registry/v2/repositories/library/nginx/_manifests/tags/1.25/current/link",
        "sha256:0",
    );
    desk.file(
        "apps/Kubefile",
        "FROM scratch\nCOPY registry registry\nAPP web local://charts/web\nLAUNCH web\n",
    );
    desk.ok(&["build", "-t", "web:1", "--platform", "linux/arm64", "apps"]);
    let images = |desk: &Desk, image: &str| {
        let manifest = desk.json(&["inspect", "--no-unpack", "-o", "json", image])["manifest"].clone();
        let text = manifest["annotations"]["sealer.image.container.images"].as_str();
        serde_json::from_str::<Value>(text.unwrap()).unwrap()
    };
    let nginx =
        json!([{ "image": "library/nginx:1.25", "platform": { "architecture": "arm64", "os": "linux" } }]);
    assert_eq!(images(&desk, "web:1"), nginx);
    desk.file("apps/Kubefile", "FROM web:1\nCOPY up.sh scripts/\nCMD true\n");
    desk.ok(&["build", "-t", "web:2", "--platform", "linux/arm64", "apps"]);
    assert_eq!(images(&desk, "web:2"), nginx);
    let launched = json!(["helm upgrade --install web application/apps/web/", "true"]);
    assert_eq!(extension(&desk, "web:2")["launch"], json!({ "cmds": launched }));

    desk.file(
        "apps/Kubefile",
        "FROM --platform=linux/arm64 scratch\nCNI calico local://calico\nLAUNCH calico\n",
    );
    desk.ok(&["build", "-t", "net:1", "apps"]);
    desk.ok(&["merge", "-t", "all:1", "net:1", "web:1"]);
    assert_eq!(
        extension(&desk, "all:1")["launch"],
        json!({ "app_names": ["calico", "web"] })
    );
    assert_eq!(images(&desk, "all:1"), nginx);
    assert_eq!(commands(&desk, "all:1").as_array().unwrap().len(), 2);

    desk.ok(&["save", "-o", "all.tar", "all:1"]);
    there.ok(&["load", "-i", desk.path("all.tar").to_str().unwrap()]);
    assert_eq!(extension(&there, "all:1"), extension(&desk, "all:1"));
}

#[test]
fn an_early_base_image_and_an_application_on_top_of_it() {
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "-t", "kubernetes:v1.22.15", "base"]);
    let arch = desk.ok(&[
        "inspect",
        "--no-unpack",
        "-f",
        "{{.Architecture}}",
        "kubernetes:v1.22.15",
    ]);
    desk.file(&format!("app/{}/helm", arch.trim()), "helm");
    desk.file("app/mychart/Chart.yaml", "name: demo\n");
    desk.file("app/imageList", "nginx:1.25\n");
    desk.file(
        "app/Kubefile",
        "FROM kubernetes:v1.22.15\nARG Replicas=2\nCOPY ${ARCH}/helm bin\nCOPY mychart charts/mychart\n\
         COPY imageList manifests/\n\
         CMD helm upgrade --install demo charts/mychart --set replicas=${Replicas}\nCMD kubectl get nodes\n",
    );
    desk.ok(&[
        "build",
        "-t",
        "demo:1",
        "--build-mode",
        "lite",
        "--build-arg",
        "Replicas=3",
        "app",
    ]);
    let lines = json!([
        "helm upgrade --install demo charts/mychart --set replicas=3",
        "kubectl get nodes"
    ]);
    assert_eq!(commands(&desk, "demo:1"), lines);
    assert_eq!(extension(&desk, "demo:1")["launch"]["cmds"], lines);
    assert_eq!(desk.ok(&["cat", "demo:1", "bin/helm"]), "helm");
    desk.file("app/Kubefile", "FROM demo:1\nCMDS [\"echo one\", \"echo two\"]\n");
    desk.ok(&["build", "-t", "demo:2", "--build-mode", "lite", "app"]);
    assert_eq!(commands(&desk, "demo:2"), json!(["echo one", "echo two"]));
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, content) in files {
        let mut header = [0_u8; 512];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000750\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend(header);
        tar.extend(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn add_unpacks_archives_and_copies_the_rest() {
    let desk = Desk::of_an_ordinary_user();
    let tar = archive(&[("cni/bin/bridge", "bridge"), ("cni/conf", "conf")]);
    desk.file("context/cni.tgz", &tar);
    desk.file("context/plain.txt", "plain");
    desk.file("context/odd.tar.xz", b"\xfd7zXZ\0\0\0");
    desk.file(
        "context/Kubefile",
        "FROM scratch\nADD cni.tgz plain.txt opt/\nCOPY cni.tgz opt/\n",
    );
    desk.ok(&["build", "-t", "add:1", "context"]);
    assert_eq!(desk.ok(&["cat", "add:1", "opt/cni/bin/bridge"]), "bridge");
    assert_eq!(desk.ok(&["cat", "add:1", "opt/plain.txt"]), "plain");
    let layers = desk.layers("add:1");
    let mode = fs::metadata(desk.layer(&layers[0]).join("opt/cni/conf"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o750);
    assert_eq!(fs::read(desk.layer(&layers[1]).join("opt/cni.tgz")).unwrap(), tar);
    let unpacked = fs::read_dir(desk.path("root/data/overlay2")).unwrap().count();
    assert_eq!(unpacked, 2, "nothing is left of the archive's own layer");
    desk.ok(&["store", "check"]);

    desk.file("context/Kubefile", "FROM scratch\nADD odd.tar.xz opt/\n");
    let error = desk.fails(2, &["build", "-t", "add:2", "context"]);
    assert!(
        error.contains("compressed with xz") && error.contains("Kubefile:2"),
        "{error}"
    );
    let climbing = archive(&[("../../evil", "evil")]);
    desk.file("context/evil.tar", climbing);
    desk.file("context/Kubefile", "FROM scratch\nADD evil.tar opt/\n");
    let error = desk.fails(2, &["build", "-t", "add:3", "context"]);
    assert!(
        error.contains("evil.tar") && error.contains("Kubefile:2"),
        "{error}"
    );
}

#[test]
fn texts_in_the_kubefile_become_files_and_ignored_files_stay_out() {
    let desk = Desk::of_an_ordinary_user();
    desk.file("context/keep", "keep");
    desk.file("context/secret.key", "secret");
    desk.file("context/.dockerignore", "keep\n");
    desk.file("context/.kubeignore", "# ours\n*.key\n.*ignore\nKubefile\n");
    desk.file(
        "context/Kubefile",
        "\u{feff}# escape=`\nfrom scratch\narg Name=sea.hub\ncopy . `\n  # in between\n  .\n\
         Copy <<hosts <<'raw' etc/\n127.0.0.1 $Name\nhosts\n$Name\nraw\n",
    );
    desk.ok(&["build", "-t", "x:1", "context"]);
    assert_eq!(desk.ok(&["cat", "x:1", "etc/hosts"]), "127.0.0.1 sea.hub\n");
    assert_eq!(desk.ok(&["cat", "x:1", "etc/raw"]), "$Name\n");
    let files = desk.ok(&["ls", "-R", "x:1"]);
    assert!(files.contains("keep"), "{files}");
    for out in ["secret.key", "Kubefile", "ignore"] {
        assert!(!files.contains(out), "{out}: {files}");
    }
    desk.file("context/Kubefile", "FROM scratch\nCOPY secret.key .\n");
    let error = desk.fails(2, &["build", "-t", "x:2", "context"]);
    assert!(
        error.contains("kept out of the build by .kubeignore:2") && error.contains("Kubefile:2:6"),
        "{error}"
    );
    fs::remove_file(desk.path("context/.kubeignore")).unwrap();
    desk.file("context/Kubefile", "FROM scratch\nCOPY keep .\n");
    let error = desk.fails(2, &["build", "-t", "x:2", "context"]);
    assert!(error.contains(".dockerignore:1"), "{error}");
    desk.file("context/.kubeignore", "a\n[\n");
    let error = desk.fails(2, &["build", "-t", "x:2", "context"]);
    assert!(error.contains(".kubeignore:2: "), "{error}");
}

#[test]
fn one_build_makes_an_image_for_several_platforms() {
    let desk = Desk::new();
    desk.file("app/amd64/tool", "for amd64");
    desk.file("app/arm64/tool", "for arm64");
    desk.file("app/Kubefile", "FROM scratch\nCOPY ${ARCH}/tool bin/\n");
    let both = "linux/amd64,linux/arm64";
    let printed = desk.ok(&["build", "-t", "tools:v1", "--platform", both, "app"]);
    assert!(printed.starts_with("tools:v1@sha256:"), "{printed}");
    for platform in ["amd64", "arm64"] {
        let tool = desk.ok(&[
            "cat",
            "--platform",
            &format!("linux/{platform}"),
            "tools:v1",
            "bin/tool",
        ]);
        assert_eq!(tool, format!("for {platform}"));
    }
    assert_eq!(
        desk.ok(&["images"]).matches("tools").count(),
        1,
        "no other name is left"
    );
    // The same again is the same; what fails leaves what was there.
    assert_eq!(
        desk.ok(&["build", "-t", "tools:v1", "--platform", both, "app"]),
        printed
    );
    fs::remove_file(desk.path("app/arm64/tool")).unwrap();
    desk.fails(2, &["build", "-t", "tools:v1", "--platform", both, "app"]);
    assert_eq!(desk.ok(&["images"]).matches("tools").count(), 1);
    let error = desk.fails(
        2,
        &[
            "build",
            "-t",
            "x:1",
            "--platform",
            "linux/amd64,linux/amd64",
            "app",
        ],
    );
    assert!(error.contains("names linux/amd64 twice"), "{error}");
    let error = desk.fails(
        2,
        &[
            "build",
            "-t",
            "x:1",
            "--platform",
            "linux/amd64,windows/amd64",
            "app",
        ],
    );
    assert!(error.contains("windows is no operating system"), "{error}");
}

#[test]
fn modes_are_what_copy_says_and_a_slip_in_a_build_arg_is_named() {
    let desk = Desk::new();
    desk.file("app/tools/run.sh", "#!/bin/sh\n");
    desk.file("app/large", vec![7; 2 << 20]);
    let kubefile = "FROM scratch\nARG Mode=0750\nCOPY --chown=root:root --link --chmod=$Mode tools opt/tools\n\
                    COPY --chmod=4755 large <<text bin/\nx\ntext\nCOPY tools plain\n";
    desk.file("app/Kubefile", kubefile);
    let build = |more: &[&str]| {
        let output = desk.run(&[&["build", "-t", "app:1", "--build-mode", "lite", "app"], more].concat());
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    };
    let mode = |path: &str| {
        let listed = desk.ok(&["ls", "app:1", path]);
        let (_, line) = listed.split_once('\n').unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    build(&[]);
    assert_eq!(mode("opt/tools/run.sh"), "-rwxr-x---");
    assert_eq!(mode("bin/large"), "-rwsr-xr-x");
    assert_eq!(mode("bin/text"), "-rwsr-xr-x");
    assert_ne!(mode("plain/run.sh"), "-rwxr-x---");
    // Another mode is another layer; what was not meant is said, and nothing else comes of it.
    let said = build(&["--build-arg", "Mode=700"]);
    assert_eq!(said.matches("cached").count(), 3, "{said}");
    assert_eq!(mode("opt/tools/run.sh"), "-rwx------");
    let said = build(&["--build-arg", "Mdoe=700"]);
    assert!(
        said.contains("--build-arg Mdoe is not used: no ARG declares it; did you mean --build-arg Mode=…?"),
        "{said}"
    );
    let said = desk.fails(2, &["build", "-t", "app:1", "--build-arg", "Mode=rwx", "app"]);
    assert!(said.contains("\"rwx\" is no mode"), "{said}");
}
