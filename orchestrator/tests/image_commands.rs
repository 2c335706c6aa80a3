//! The image commands as people type them: the real binary, a store in a folder of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod desk;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use desk::*;

#[test]
fn the_rootfs_pages_two_examples_become_images() {
    let desk = Desk::new();
    desk.base_context();
    let base = desk.ok(&["build", "-t", "kubernetes:v1.19.8", "base"]);
    assert!(base.starts_with("kubernetes:v1.19.8@sha256:"), "{base}");
    desk.file("mine/daemon.json", r#"{"mine":true}"#);
    desk.file(
        "mine/Kubefile",
        "FROM kubernetes:v1.19.8\nCOPY daemon.json etc/\n",
    );
    desk.ok(&["build", "-t", "user-defined-kubernetes:v1.19.8", "mine"]);

    let layers = desk.layers("user-defined-kubernetes:v1.19.8");
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[..1], desk.layers("kubernetes:v1.19.8"));
    let (below, above) = (desk.layer(&layers[0]), desk.layer(&layers[1]));
    assert_eq!(
        fs::read(above.join("etc/daemon.json")).unwrap(),
        br#"{"mine":true}"#
    );
    let kubeadm = fs::symlink_metadata(below.join("bin/kubeadm")).unwrap();
    assert_eq!((kubeadm.mode() & 0o7777, kubeadm.len()), (0o4755, 3_000_000));
    assert_eq!(
        kubeadm.ino(),
        fs::metadata(below.join("bin/kubelet")).unwrap().ino()
    );
    assert_eq!(
        fs::read_link(below.join("bin/kubectl")).unwrap(),
        Path::new("kubeadm")
    );
    assert!(below.join("Kubefile").exists() && below.join("registry/docker/registry").is_dir());
    let images = desk.ok(&["images"]);
    assert!(
        images
            .lines()
            .any(|line| line.starts_with("user-defined-kubernetes   v1.19.8")),
        "{images}"
    );
}

#[test]
fn the_same_inputs_give_the_same_digest() {
    let (one, other) = (Desk::new(), Desk::of_an_ordinary_user());
    for desk in [&one, &other] {
        desk.base_context();
    }
    let digest = |desk: &Desk| desk.ok(&["build", "-t", "kubernetes:v1.19.8", "base"]);
    let first = digest(&one);
    assert_eq!(first, digest(&one));
    assert_eq!(
        first,
        digest(&other),
        "nor do the user, the hour and the folder matter"
    );
    let later = one
        .command(&["build", "-t", "kubernetes:v1.19.8", "base"])
        .env("SOURCE_DATE_EPOCH", "86400")
        .output();
    assert_ne!(first, text(&later.unwrap().stdout));
}

/// As where the disk is full.
#[test]
fn a_file_that_cannot_be_written_is_named() {
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "-t", "k8s:v1", "base"]);
    let said = desk.fails(5, &["save", "-q", "-o", "/dev/full", "k8s:v1"]);
    assert!(said.contains("cannot write /dev/full: No space left"), "{said}");
    for (format, blocks) in [("oci-dir", 1), ("docker-dir", 100)] {
        let limit = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" save -q --format {format} -o {format} k8s:v1"
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &limit])
            .arg(&desk.program)
            .current_dir(desk.dir.path())
            .env("GANTRY_ROOT", desk.path("root"))
            .env("GANTRY_SIGNATURE_POLICY", desk.path("policy.json"))
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(
            said.contains(&format!("cannot write {format}/")) && said.contains("File too large"),
            "{said}"
        );
    }
}

#[test]
fn an_image_goes_from_store_to_store_in_a_file() {
    let (here, there) = (Desk::new(), Desk::of_an_ordinary_user());
    here.base_context();
    let built = here.ok(&["build", "-t", "kubernetes:v1.19.8", "base"]);
    here.ok(&["tag", "kubernetes:v1.19.8", "k8s:latest", "sea.hub:5000/k8s"]);
    here.ok(&["save", "-o", "k8s.tar", "kubernetes:v1.19.8", "k8s"]);
    let archive = here.path("k8s.tar");
    let loaded = there.ok(&["load", "-i", archive.to_str().unwrap()]);
    assert!(loaded.contains(built.trim()), "{loaded}");
    assert_eq!(there.json(&["images", "-o", "json"]).as_array().unwrap().len(), 2);
    assert_eq!(here.layers("k8s"), there.layers("k8s"));
    there.ok(&["store", "check"]);

    // A copy that was cut short or changed on its way is refused, and the next good one works.
    let mut bytes = fs::read(&archive).unwrap();
    fs::write(here.path("short.tar"), &bytes[..bytes.len() / 3]).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(here.path("flipped.tar"), &bytes).unwrap();
    let fresh = Desk::new();
    for file in ["short.tar", "flipped.tar"] {
        let error = fresh.fails(6, &["load", "-i", here.path(file).to_str().unwrap()]);
        assert!(error.contains("nothing of it was kept"), "{error}");
        assert_eq!(fresh.json(&["images", "-o", "json"]), Value::Array(vec![]));
    }
    fresh.ok(&["load", "-i", archive.to_str().unwrap()]);
    assert!(
        fresh
            .fails(2, &["load", "-i", "/etc/passwd"])
            .contains("/etc/passwd is not valid")
    );
    assert!(
        fresh
            .fails(2, &["load", "-i", "missing.tar"])
            .contains("missing.tar")
    );
}

#[test]
fn a_removed_image_leaves_nothing_but_what_others_need() {
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "-t", "base:1", "base"]);
    desk.file("mine/Kubefile", "FROM base:1\nCOPY Kubefile etc/\n");
    desk.ok(&["build", "-t", "mine:1", "mine"]);
    let layers = desk.layers("mine:1");
    desk.ok(&["rmi", "base:1"]);
    assert!(desk.layer(&layers[0]).exists(), "mine:1 is made of it");
    desk.ok(&["store", "check"]);
    desk.ok(&["rmi", "mine:1"]);
    assert!(!desk.layer(&layers[0]).exists());
}

#[test]
fn a_name_is_removed_and_found_as_it_is_meant() {
    let desk = Desk::new();
    desk.base_context();
    let built = desk.ok(&["build", "-t", "base:1", "base"]);
    let error = desk.fails(2, &["rmi", "bsae:1"]);
    assert!(error.contains("did you mean base:1?"), "{error}");
    let id = &built.trim().rsplit(':').next().unwrap()[..12];
    let layers = desk.layers(id);
    assert_eq!(desk.ok(&["rmi", id]), "base:1\n");
    assert!(!desk.layer(&layers[0]).exists());
    assert_eq!(
        fs::read_dir(desk.path("root/store/blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn an_image_for_other_platforms_is_no_damaged_one() {
    let desk = Desk::new();
    desk.file("base/Kubefile", "FROM scratch\nCOPY a a\n");
    desk.file("base/a", "a");
    let platforms = "linux/riscv64,linux/s390x";
    desk.ok(&["build", "-t", "other:v1", "--platform", platforms, "base"]);
    let images = desk.ok(&["images"]);
    assert!(
        images.contains(platforms) && !images.contains("damaged"),
        "{images}"
    );
    let list: Value = serde_json::from_str(&desk.ok(&["images", "-o", "json"])).unwrap();
    assert_eq!(
        list[0]["platforms"],
        serde_json::json!(["linux/riscv64", "linux/s390x"])
    );
    let error = desk.fails(2, &["inspect", "--no-unpack", "other:v1"]);
    assert!(error.contains("it is for linux/riscv64, linux/s390x"), "{error}");
    desk.ok(&["inspect", "--no-unpack", "--platform", "linux/s390x", "other:v1"]);
}

#[test]
fn of_two_images_for_one_platform_the_second_is_refused() {
    let desk = Desk::new();
    for version in ["one", "two"] {
        desk.file("app/Kubefile", format!("FROM scratch\nLABEL version={version}\n"));
        desk.ok(&["build", "-t", &format!("app:{version}"), "app"]);
    }
    desk.ok(&["manifest", "create", "list:v1", "app:one"]);
    let error = desk.fails(2, &["manifest", "add", "list:v1", "app:two"]);
    let platform = gantry_store::Platform::host();
    let said = format!("image list:v1 has one for {platform} already");
    assert!(error.contains(&said), "{error}");
    assert!(error.contains("hint: `gantry manifest remove list:v1"), "{error}");
    let help = desk.ok(&["manifest", "push", "--help"]);
    assert!(
        help.contains("gantry manifest push kubernetes") && !help.contains("gantry push"),
        "{help}"
    );
}

#[test]
fn a_port_is_digits_alone() {
    let desk = Desk::new();
    for words in [
        &["pull", "registry.example.test:+5000/demo:v1"][..],
        &["login", "registry.example.test:+5000", "-u", "me", "-p", "secret"],
    ] {
        let error = desk.fails(2, words);
        assert!(
            error.contains(":+5000") && error.contains("write it in digits alone"),
            "{error}"
        );
    }
}

#[test]
fn every_id_that_is_printed_is_accepted_by_every_command() {
    let desk = Desk::new();
    desk.file("base/Kubefile", "FROM scratch\nCOPY a a\n");
    desk.file("base/a", "a");
    let platforms = "linux/amd64,linux/arm64";
    let built = desk.ok(&["build", "-t", "both:v1", "--platform", platforms, "base"]);
    let printed = |words: &[&str], column: usize| -> Vec<String> {
        let lines = desk.ok(words);
        let cells = lines
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().nth(column));
        cells.map(|cell| cell.unwrap().to_owned()).collect()
    };
    let mut ids = vec![built.trim().rsplit_once('@').unwrap().1.to_owned()];
    ids.extend(printed(&["images"], 2));
    ids.extend(printed(&["images", "--digests"], 2));
    ids.extend(printed(&["manifest", "inspect", "both:v1"], 1));
    for platform in platforms.split(',') {
        let format = "{{.Digest}} {{.Id}}";
        let said = desk.ok(&["inspect", "--platform", platform, "-f", format, "both:v1"]);
        ids.extend(said.split_whitespace().map(str::to_owned));
        // The image for one platform, whatever this machine is for.
        for id in said.split_whitespace() {
            let of = desk.ok(&["inspect", "-f", "{{.Os}}/{{.Architecture}}", id]);
            assert_eq!(of.trim(), platform, "{id}");
            let error = desk.fails(2, &["inspect", "--platform", "linux/s390x", id]);
            assert!(error.contains("not for linux/s390x"), "{error}");
        }
    }
    let short: Vec<String> = ids
        .iter()
        .map(|id| id.trim_start_matches("sha256:")[..10].to_owned())
        .collect();
    ids.extend(short);
    assert_eq!(ids.len(), 2 * (1 + 1 + 1 + 2 + 4), "{ids:?}");
    for id in &ids {
        for words in [
            &["inspect", "--no-unpack"][..],
            &["history"],
            &["ls"],
            &["tree"],
            &["sbom"],
            &["check"],
            &["save", "-o", "saved.tar"],
            &["manifest", "inspect"],
        ] {
            desk.ok(&[words, &[id.as_str()]].concat());
        }
        desk.ok(&["diff", id, "both:v1"]);
        // What the row of `gantry images` stands for is the image for every platform.
        desk.ok(&["tag", id, "again:v1"]);
        let tagged = printed(&["manifest", "inspect", "again:v1"], 0);
        assert_eq!(tagged, ["linux/amd64", "linux/arm64"], "{id}");
        desk.ok(&["rmi", "again:v1"]);
    }
    assert_eq!(desk.ok(&["rmi", &ids[1]]), "both:v1\n");
    assert_eq!(desk.ok(&["images", "-q"]), "");
}

#[test]
fn a_flipped_byte_is_found_and_named_and_can_be_repaired() {
    let desk = Desk::of_an_ordinary_user();
    desk.base_context();
    desk.ok(&["build", "-t", "base:1", "base"]);
    let id = desk.layers("base:1").remove(0);
    desk.ok(&["store", "check"]);
    for path in [
        desk.path("root/store/blobs/sha256").join(&id),
        desk.layer(&id).join("etc/daemon.json"),
    ] {
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        let permissions = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, permissions).unwrap();
        let output = desk.run(&["store", "check"]);
        assert_eq!(output.status.code(), Some(6));
        let report = text(&output.stdout);
        assert!(
            report.contains(path.to_str().unwrap()) && report.contains("gantry rmi base:1"),
            "{report}"
        );
    }
    desk.ok(&["rmi", "base:1"]);
    desk.ok(&["build", "-t", "base:1", "base"]);
    desk.layers("base:1");
    desk.ok(&["store", "check"]);
}

#[test]
fn every_mistake_of_a_kubefile_is_shown_at_once_with_its_place() {
    let desk = Desk::new();
    desk.file("base/daemon.json", "{}");
    desk.file("base/Kubefile", "FROM kubernetes:v1.19.8\nCOPPY a b\nCOPY deamon.json etc/\nCOPY ../secret .\nCOPY daemon.json ../etc/\n");
    let errors = desk.fails(2, &["build", "-t", "x", "base"]);
    for expected in [
        "base/Kubefile:1:6",
        "image kubernetes:v1.19.8 is not in the store",
        "base/Kubefile:2:1",
        "did you mean COPY?",
        "base/Kubefile:3:6",
        "did you mean daemon.json?",
        "base/Kubefile:4:6",
        "leads out of the build context",
        "base/Kubefile has 4 mistakes",
    ] {
        assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
    }
    desk.file("base/Kubefile", "FROM scratch\nCOPY daemon.json ../etc/\n");
    assert!(
        desk.fails(2, &["build", "-t", "x", "base"])
            .contains("base/Kubefile:2:18")
    );
    assert_eq!(desk.json(&["images", "-o", "json"]), Value::Array(vec![]));
    desk.file("base/Kubefile", "FROM scratch\nCOPY . .\n");
    desk.ok(&["build", "-t", "x", "base"]);
}

#[test]
fn input_that_is_no_kubefile_is_refused_in_one_line() {
    let desk = Desk::new();
    desk.file("base/Kubefile", "x \\\n".repeat(2_500_000));
    assert!(
        desk.fails(2, &["build", "-t", "x", "base"])
            .contains("larger than 1 MiB")
    );
    desk.file("base/Kubefile", b"FROM scratch\n\xff\xfe");
    assert!(
        desk.fails(2, &["build", "-t", "x", "base"])
            .contains("base/Kubefile:2: this is not UTF-8")
    );
    desk.file("base/Kubefile", "FROM scratch\nCOPY . .\n");
    assert!(
        desk.fails(2, &["build", "-t", "x", "-f", "nowhere", "base"])
            .contains("nowhere")
    );
    assert!(
        desk.fails(2, &["build", "-t", "x", "-f", "base/Kubefile", "nowhere"])
            .contains("nowhere")
    );
    assert!(
        desk.fails(2, &["build", "-t", "X", "base"])
            .contains("lower case")
    );
    assert!(
        desk.fails(2, &["build", "-t", "x", "--platform", "plan9/amd64", "base"])
            .contains("plan9")
    );
}

#[test]
fn arguments_labels_and_commands_end_up_in_the_image() {
    let desk = Desk::new();
    desk.file("base/arm64/helm", "helm");
    desk.file(
        "base/Kubefile",
        "FROM scratch\nARG Replicas=2\nENV MODE=demo\nLABEL cluster.alpha.sealer.io/container-runtime-type=docker\n\
         COPY ${ARCH}/helm bin/\nCMD helm install --set replicas=${Replicas} demo\nCMD kubectl get nodes\n",
    );
    desk.ok(&[
        "build",
        "-t",
        "app",
        "--platform",
        "linux/arm64",
        "--build-arg",
        "Replicas=5",
        "base",
    ]);
    desk.file("next/Kubefile", "FROM app\nCMD third\n");
    let error = desk.fails(2, &["build", "-t", "app2", "--platform", "linux/s390x", "next"]);
    assert!(
        error.contains("it is for linux/arm64, this build is for linux/s390x"),
        "{error}"
    );
    desk.ok(&["build", "-t", "app2", "--platform", "linux/arm64", "next"]);
    let document = desk.json(&["inspect", "app2", "-o", "json"]);
    assert_eq!(
        document["commands"],
        serde_json::json!(["helm install --set replicas=5 demo", "kubectl get nodes", "third"])
    );
    assert_eq!(document["env"], serde_json::json!(["MODE=demo"]));
    assert_eq!(
        document["labels"]["cluster.alpha.sealer.io/container-runtime-type"],
        "docker"
    );
    assert_eq!(document["config"]["architecture"], "arm64");
}

#[test]
fn run_needs_root_and_says_so_before_anything_happens() {
    let desk = Desk::of_an_ordinary_user();
    desk.file("base/Kubefile", "FROM scratch\nRUN touch file\n");
    let error = desk.fails(2, &["build", "-t", "x", "base"]);
    assert!(
        error.contains("only root may do that") && error.contains("sudo gantry build"),
        "{error}"
    );
}

#[test]
fn run_sees_the_rootfs_and_its_writes_become_the_layer() {
    if !am_root() {
        // What an ordinary user gets is the test above.
        return;
    }
    let desk = Desk::new();
    desk.base_context();
    desk.ok(&["build", "-t", "base:1", "base"]);
    desk.file(
        "mine/Kubefile",
        "FROM base:1\nENV GREETING=hello\nRUN cat Metadata && echo \"$GREETING\" > etc/greeting && rm bin/kubectl && rm -r cri && mkdir cri\n\
         RUN ! touch /etc/gantry-was-here && ! ls /sys/class/net | grep -v lo && touch /tmp/scratch && true\n\
         RUN kubelet-of-the-rootfs || chmod 755 bin/kubeadm\n",
    );
    let output = desk.run(&["build", "-t", "mine:1", "mine"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("v1.19.8"),
        "its output is shown: {}",
        text(&output.stderr)
    );
    let layers = desk.layers("mine:1");
    assert_eq!(layers.len(), 3, "the second RUN wrote nothing");
    let first = desk.layer(&layers[1]);
    assert_eq!(fs::read_to_string(first.join("etc/greeting")).unwrap(), "hello\n");
    assert_eq!(
        fs::symlink_metadata(first.join("bin/kubectl")).unwrap().rdev(),
        0,
        "a whiteout"
    );
    assert_eq!(
        fs::metadata(desk.layer(&layers[2]).join("bin/kubeadm"))
            .unwrap()
            .mode()
            & 0o7777,
        0o755
    );
    assert!(!Path::new("/etc/gantry-was-here").exists());
    let again = desk.ok(&["build", "-t", "mine:2", "mine"]);
    assert_eq!(
        again.rsplit('@').next(),
        text(&output.stdout).rsplit('@').next(),
        "RUN is deterministic if its command is"
    );

    let blobs = || {
        fs::read_dir(desk.path("root/store/blobs/sha256"))
            .unwrap()
            .count()
    };
    let before = blobs();
    desk.file(
        "mine/Kubefile",
        "FROM base:1\nCOPY Kubefile .\nRUN echo gone wrong; exit 3\n",
    );
    let error = desk.fails(5, &["build", "-t", "mine:1", "mine"]);
    assert!(
        error.contains("gone wrong") && error.contains("Kubefile:3: RUN") && error.contains("exit status 3"),
        "{error}"
    );
    assert_eq!(
        desk.layers("mine:1"),
        layers,
        "the name leads where it led before"
    );
    assert_eq!(blobs(), before + 1, "the layer of COPY is kept for the next time");
    desk.ok(&["prune"]);
    assert_eq!(blobs(), before, "and no longer than that");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(desk.dir.path().to_str().unwrap()));
    assert_eq!(fs::read_dir(desk.path("root/store/tmp")).unwrap().count(), 0);
}

#[test]
fn commands_at_the_same_time_do_not_disturb_each_other() {
    let desk = Desk::new();
    desk.base_context();
    let names: Vec<String> = (0..6).map(|number| format!("image:{number}")).collect();
    let mut running: Vec<_> = names
        .iter()
        .map(|name| {
            let mut build = desk.command(&["build", "-t", name, "base"]);
            build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    assert!(running.iter_mut().all(|build| build.wait().unwrap().success()));
    let mut removing: Vec<_> = names[1..]
        .iter()
        .map(|name| {
            desk.command(&["rmi", name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    assert!(removing.iter_mut().all(|rmi| rmi.wait().unwrap().success()));
    assert_eq!(desk.json(&["images", "-o", "json"]).as_array().unwrap().len(), 1);
    desk.ok(&["store", "check"]);
}

#[test]
fn a_killed_build_leaves_a_store_that_works() {
    let desk = Desk::new();
    desk.base_context();
    desk.file("base/images/large", vec![1; 64 << 20]);
    for _ in 0..3 {
        let mut build = desk
            .command(&["build", "-t", "base:1", "base"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun =
            || fs::read_dir(desk.path("root/store/tmp")).is_ok_and(|mut entries| entries.next().is_some());
        while !begun() && build.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        build.kill().unwrap();
        build.wait().unwrap();
    }
    desk.ok(&["images"]);
    desk.ok(&["build", "-t", "base:1", "base"]);
    assert_eq!(fs::read_dir(desk.path("root/store/tmp")).unwrap().count(), 0);
    desk.ok(&["store", "check"]);
}
