//! Looking into images, putting them together and clearing up after them, as people type it. See `image_commands.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use desk::*;

/// `kubernetes:v1`, and `kubernetes:v2` with one file changed and one more.
fn two_versions(desk: &Desk) {
    desk.base_context();
    desk.ok(&["build", "-t", "kubernetes:v1", "base"]);
    desk.file("mine/daemon.json", r#"{"mine":true}"#);
    desk.file(
        "mine/Kubefile",
        "FROM kubernetes:v1\nLABEL team=blue\nCOPY daemon.json etc/\nCOPY daemon.json opt/new.json\n",
    );
    desk.ok(&["build", "-t", "kubernetes:v2", "mine"]);
}

#[test]
fn files_of_an_image_are_seen_without_unpacking_it() {
    let desk = Desk::new();
    two_versions(&desk);
    let v2 = "kubernetes:v2";
    assert_eq!(desk.ok(&["cat", v2, "/etc/daemon.json"]), r#"{"mine":true}"#);
    assert_eq!(desk.ok(&["cat", "kubernetes:v1", "/etc/daemon.json"]), "{}");
    let binary = desk.run(&["cat", v2, "bin/kubectl"]);
    assert!(
        binary.stdout == vec![7; 3_000_000],
        "links are followed inside the rootfs"
    );
    assert!(
        desk.run(&["cat", v2, "bin/kubelet"]).stdout == binary.stdout,
        "and hard links are files"
    );
    let error = desk.fails(2, &["cat", v2, "etc/none"]);
    assert!(
        error.contains("there is no etc/none in image kubernetes:v2"),
        "{error}"
    );
    assert!(error.contains("gantry ls -R kubernetes:v2"), "{error}");
    let error = desk.fails(2, &["cat", v2, "etc"]);
    assert!(
        error.contains("etc in image kubernetes:v2 is a folder"),
        "{error}"
    );
    let error = desk.fails(2, &["cat", "kubernetes:v3", "etc"]);
    assert!(error.contains("did you mean"), "{error}");

    let list = desk.ok(&["ls", v2, "bin"]);
    let line = |end: &str| list.lines().find(|line| line.ends_with(end)).unwrap_or_default();
    assert!(line("kubectl -> kubeadm").starts_with("lrwxrwxrwx"), "{list}");
    assert!(
        line("kubelet").starts_with("-rwsr-xr-x   0:0     3.0 MB"),
        "{list}"
    );
    assert_eq!(list.lines().count(), 4, "{list}");
    let file = desk.ok(&["tree", v2, "bin/kubectl"]);
    assert_eq!(file, "bin/kubectl  3.0 MB\n", "a file is no tree");
    let link = desk.ok(&["ls", v2, "bin/kubectl"]);
    assert!(link.trim_end().ends_with("bin/kubectl -> kubeadm"), "{link}");
    let all = desk.json(&["ls", "-R", v2, "-o", "json"]);
    let paths: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    assert!(
        paths.contains(&"scripts/init.sh") && paths.contains(&"opt/new.json"),
        "{paths:?}"
    );
    let error = desk.fails(2, &["ls", v2, "none"]);
    assert!(
        error.contains("there is no none in image kubernetes:v2"),
        "{error}"
    );
    assert!(!desk.path("root/data/overlay2").exists(), "nothing was unpacked");
}

#[test]
fn names_of_files_are_shown_whole_and_control_no_terminal() {
    let desk = Desk::new();
    desk.file("app/etc/\u{1b}[31mred", "");
    desk.file("app/etc/first\rsecond", "");
    desk.file("app/Kubefile", "FROM scratch\nCOPY etc etc\n");
    desk.ok(&["build", "-t", "app:v1", "app"]);
    desk.file("none/Kubefile", "FROM scratch\nLABEL a=b\n");
    desk.ok(&["build", "-t", "none:v1", "none"]);
    for words in [
        &["ls", "app:v1", "etc"][..],
        &["tree", "app:v1"],
        &["diff", "none:v1", "app:v1"],
    ] {
        let listed = desk.ok(words);
        for name in [r"\u{1b}[31mred", r"first\rsecond"] {
            assert!(listed.contains(name), "{words:?}: {listed}");
        }
    }
}

#[test]
fn a_damaged_file_is_refused_when_it_is_printed() {
    let desk = Desk::new();
    desk.base_context();
    desk.file(
        "base/etc/noise",
        (0..40_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect::<Vec<_>>(),
    );
    desk.ok(&["build", "-t", "kubernetes:v1", "base"]);
    let layer = &desk.json(&["inspect", "--no-unpack", "kubernetes:v1", "-o", "json"])["layers"][0]["id"];
    let blob = desk.path("root/store/blobs/sha256").join(layer.as_str().unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&blob, &bytes).unwrap();
    let error = desk.fails(6, &["cat", "kubernetes:v1", "etc/noise"]);
    assert!(
        error.contains("etc/noise in layer sha256:") && error.contains("is damaged"),
        "{error}"
    );
    let end = bytes.len() - 100;
    bytes[end] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    desk.fails(6, &["ls", "kubernetes:v1"]);
}

#[test]
fn a_diff_names_files_and_what_an_upgrade_sends() {
    let desk = Desk::new();
    two_versions(&desk);
    let diff = desk.json(&["diff", "kubernetes:v1", "kubernetes:v2", "-o", "json"]);
    let changes: Vec<_> = diff["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let word = |name: &str| one[name].as_str().unwrap().to_owned();
            format!(
                "{} {} {} {} {}",
                word("change"),
                word("path"),
                one["before"],
                one["after"],
                one["what"]
            )
        })
        .collect();
    assert_eq!(
        changes,
        [
            r#"changed etc/daemon.json 2 13 ["content"]"#,
            r#"added opt null null ["folder"]"#,
            r#"added opt/new.json null 13 ["file"]"#,
        ]
    );
    let (sent, all) = (
        diff["bytesToSend"].as_u64().unwrap(),
        diff["bytesInAll"].as_u64().unwrap(),
    );
    assert!(
        sent > 0 && sent < 2000 && all > sent,
        "{sent} of {all} bytes are sent"
    );

    let back = desk.run(&["diff", "kubernetes:v2", "kubernetes:v1"]);
    let (list, summary) = (text(&back.stdout), text(&back.stderr));
    assert!(
        list.lines()
            .any(|line| line.starts_with("removed   13 B     -") && line.ends_with("opt/new.json")),
        "{list}"
    );
    assert!(
        summary.contains("0 added, 2 removed (13 B), 1 changed."),
        "{summary}"
    );
    assert!(
        summary.contains("is sent 0 B of"),
        "its layers are there: {summary}"
    );
    let nothing = desk.run(&["diff", "kubernetes:v1", "kubernetes:v1"]);
    assert_eq!(text(&nothing.stdout), "");
    assert!(
        text(&nothing.stderr).starts_with("No file differs."),
        "{}",
        text(&nothing.stderr)
    );
    assert!(!desk.path("root/data/overlay2").exists(), "nothing was unpacked");
}

#[test]
fn an_image_tells_its_history_and_any_field() {
    let desk = Desk::new();
    two_versions(&desk);
    let history = desk.ok(&["history", "kubernetes:v2"]);
    let lines: Vec<_> = history.lines().collect();
    assert!(lines[1].ends_with("COPY daemon.json opt/new.json"), "{history}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("-") && line.contains("LABEL")),
        "{history}"
    );
    let documents = desk.json(&["history", "kubernetes:v2", "-o", "json"]);
    assert!(
        documents[0]["layer"].as_str().unwrap().starts_with("sha256:"),
        "{documents}"
    );

    desk.ok(&["tag", "kubernetes:v2", "kubernetes:latest"]);
    let format = |format: &str| desk.ok(&["inspect", "kubernetes:v2", "--format", format]);
    assert_eq!(
        format("{{.Os}} {{.Config.Labels.team}} {{len .Layers}}"),
        "linux blue 3\n"
    );
    assert_eq!(
        format("{{join .RepoTags \" \"}}"),
        "kubernetes:latest kubernetes:v2\n"
    );
    assert_eq!(format("{{index .Labels \"none\"}}"), "\n");
    assert_eq!(
        format("json"),
        desk.ok(&["inspect", "-f", "json", "kubernetes:v2"]),
    );
    for (template, said) in [("{{.Os", "1:1:"), ("{{.Oss}}", "Oss")] {
        let error = desk.fails(2, &["inspect", "kubernetes:v2", "--format", template]);
        assert!(
            error.contains("the template of --format") && error.contains(said),
            "{error}"
        );
        assert!(error.contains("gantry inspect -f json kubernetes:v2"), "{error}");
    }
    assert!(!desk.path("root/data/overlay2").exists(), "nothing was unpacked");
}

#[test]
fn a_field_that_an_image_says_nothing_for_is_empty() {
    let desk = Desk::new();
    desk.file("bare/Kubefile", "FROM scratch\nCOPY Kubefile .\n");
    desk.ok(&["build", "-t", "bare:v1", "--build-mode", "lite", "bare"]);
    let format = |format: &str| desk.ok(&["inspect", "bare:v1", "--format", format]);
    for (template, shown) in [
        ("{{json .Config.Env}} {{json .Config.Cmd}}", "[] []"),
        (
            "{{.Config.Entrypoint}} {{len .Config.Volumes}} {{len .Config.ExposedPorts}}",
            "[] 0 0",
        ),
        (
            "<{{.Config.WorkingDir}}><{{.Config.User}}><{{.Config.StopSignal}}>",
            "<><><>",
        ),
        ("{{range .Config.Env}}{{println .}}{{end}}<{{.Author}}>", "<>"),
        (
            "{{index .Config.Labels \"none\"}}{{json .ContainerImageList}}",
            "[]",
        ),
    ] {
        assert_eq!(format(template), format!("{shown}\n"), "{template}");
    }
    let image = desk.json(&["inspect", "-f", "json", "bare:v1"]);
    let digest = image["Digest"].as_str().unwrap();
    assert_eq!(
        image["RepoDigests"],
        serde_json::json!([format!("bare@{digest}")])
    );
    assert_eq!(image["ID"], image["Id"]);
    assert_eq!(image["ImageExtension"]["type"], "kube-installer");
    // What is no field is still a mistake.
    desk.fails(2, &["inspect", "bare:v1", "-f", "{{.Config.Workdir}}"]);
}

#[test]
fn what_no_image_needs_is_pruned_and_nothing_else() {
    let desk = Desk::new();
    two_versions(&desk);
    desk.layers("kubernetes:v2");
    assert_eq!(desk.ok(&["prune"]), "nothing to remove\n");
    // The beginning of a pull, and a blob that a pull brought before it was cut off.
    let digits = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    desk.file(&format!("root/store/arriving/{digits}"), "beginning");
    desk.file(&format!("root/store/blobs/sha256/{digits}"), "");
    let said = desk.ok(&["prune"]);
    assert_eq!(
        said,
        "removed 1 blob, 9 B of pulls that were cut off; 9 B of blobs freed\n"
    );
    assert!(!desk.path(&format!("root/store/blobs/sha256/{digits}")).exists());

    // Layers of one image are the other's, too.
    desk.ok(&["rmi", "kubernetes:v1"]);
    desk.ok(&["prune"]);
    desk.ok(&["store", "check"]);
    assert_eq!(
        desk.ok(&["cat", "kubernetes:v2", "scripts/init.sh"]),
        "#!/bin/bash\nbash docker.sh\n"
    );

    // What is unpacked goes with the last image, even when its removal could not take it along. An agent's layers stay.
    fs::write(desk.path("root/store/images.json"), r#"{"images":{}}"#).unwrap();
    fs::create_dir(desk.path("root/agent")).unwrap();
    assert!(!desk.ok(&["prune"]).contains("unpacked"));
    fs::remove_dir(desk.path("root/agent")).unwrap();
    assert_eq!(desk.ok(&["prune"]), "removed 3 unpacked layers\n");
    assert_eq!(fs::read_dir(desk.path("root/data/overlay2")).unwrap().count(), 0);
}

#[test]
fn nothing_is_pruned_while_somebody_needs_the_store() {
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "-t", "kubernetes:v1", "base"]);
    let lock = fs::File::open(desk.path("root/store/lock")).unwrap();
    lock.lock_shared().unwrap();
    let error = desk.fails(8, &["prune"]);
    assert!(
        error.contains("another command uses the store now; nothing was removed"),
        "{error}"
    );
    drop(lock);
    let manifest = desk.json(&["inspect", "--no-unpack", "kubernetes:v1", "-o", "json"])["digest"].clone();
    let digits = manifest
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:")
        .to_owned();
    fs::remove_file(desk.path("root/store/blobs/sha256").join(digits)).unwrap();
    let error = desk.fails(6, &["prune"]);
    assert!(
        error.contains("nothing was removed") && error.contains("gantry store check"),
        "{error}"
    );
}

#[test]
fn images_are_merged_in_order_and_share_their_layers() {
    let desk = Desk::new();
    desk.base_context();
    desk.file("base/Kubefile", "FROM scratch\nCOPY . .\nENV A=base\nCMD base\n");
    desk.ok(&["build", "-t", "base:1", "base"]);
    for name in ["mysql", "web"] {
        desk.file(&format!("{name}/{name}.yaml"), name);
        desk.file(&format!("{name}/who"), name);
        desk.file(
            &format!("{name}/Kubefile"),
            format!("FROM base:1\nCOPY *.yaml manifests/\nCOPY who who\nENV {name}=yes LAST={name}\nLABEL of={name}\nCMD {name}\n"),
        );
        desk.ok(&["build", "-t", &format!("{name}:1"), name]);
    }
    let merged = desk.ok(&["merge", "-t", "shop:1", "mysql:1", "web:1"]);
    assert!(merged.starts_with("shop:1@sha256:"), "{merged}");
    let document = desk.json(&["inspect", "--no-unpack", "shop:1", "-o", "json"]);
    assert_eq!(
        document["layers"].as_array().unwrap().len(),
        5,
        "the base is there once"
    );
    assert_eq!(document["commands"], serde_json::json!(["base", "mysql", "web"]));
    assert_eq!(
        document["env"],
        serde_json::json!(["A=base", "mysql=yes", "LAST=web", "web=yes"])
    );
    assert_eq!(document["labels"]["of"], "web");
    assert_eq!(desk.ok(&["cat", "shop:1", "who"]), "web", "the last counts");
    assert_eq!(desk.ok(&["cat", "shop:1", "manifests/mysql.yaml"]), "mysql");
    let history = desk.ok(&["history", "shop:1"]);
    let layers = history.lines().skip(1).filter(|line| !line.starts_with('-'));
    assert_eq!(layers.count(), 5, "{history}");
    assert_eq!(history.matches("COPY . .").count(), 1, "{history}");
    assert_eq!(
        desk.ok(&["merge", "-t", "again:1", "mysql:1", "web:1"])[7..],
        merged[6..],
        "same inputs, same digest"
    );

    // The new image keeps what it needs when the others go.
    desk.ok(&["rmi", "base:1", "mysql:1", "web:1", "again:1"]);
    desk.ok(&["prune"]);
    assert_eq!(desk.ok(&["cat", "shop:1", "etc/daemon.json"]), "{}");
    desk.ok(&["store", "check"]);
    desk.layers("shop:1");

    desk.fails(2, &["merge", "-t", "one:1", "shop:1"]);
    desk.ok(&["build", "-t", "arm:1", "--platform", "linux/arm64", "base"]);
    let error = desk.fails(2, &["merge", "-t", "both:1", "arm:1", "shop:1"]);
    assert!(
        error.contains("arm:1 is for linux/arm64, but shop:1 is for linux/"),
        "{error}"
    );
    let error = desk.fails(2, &["ls", "--platform", "linux/s390x", "shop:1"]);
    assert!(error.contains("not for linux/s390x"), "{error}");
}
