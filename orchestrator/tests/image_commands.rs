//! The image commands as people type them: the real binary, a store in a folder of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// `nobody`: an ordinary user that every host has.
const ORDINARY_USER: u32 = 65534;

/// One user with a store and a folder to build in.
struct Desk {
    dir: tempfile::TempDir,
    program: PathBuf,
    user: Option<u32>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let desk = Self {
            dir,
            program: env!("CARGO_BIN_EXE_gantry").into(),
            user: None,
        };
        fs::create_dir(desk.path("base")).unwrap();
        desk
    }

    /// The desk of somebody who is not root, whoever runs the test.
    fn of_an_ordinary_user() -> Self {
        let mut desk = Self::new();
        if am_root() {
            // The folder with the build's results may be closed to others.
            let program = desk.path("gantry");
            fs::copy(&desk.program, &program).unwrap();
            desk.program = program;
            std::os::unix::fs::chown(desk.dir.path(), Some(ORDINARY_USER), None).unwrap();
            desk.user = Some(ORDINARY_USER);
        }
        desk
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    /// A rootfs in the shape of the rootfs page, and the Kubefile from there in it.
    fn base_context(&self) {
        for folder in [
            "bin",
            "cri",
            "etc",
            "images",
            "registry/docker/registry",
            "scripts",
            "statics",
        ] {
            fs::create_dir_all(self.path("base").join(folder)).unwrap();
        }
        self.file("base/bin/kubeadm", vec![7; 3_000_000]);
        self.file("base/etc/daemon.json", "{}");
        self.file("base/etc/empty", "");
        self.file("base/scripts/init.sh", "#!/bin/bash\nbash docker.sh\n");
        self.file("base/Metadata", r#"{"version":"v1.19.8","arch":"amd64"}"#);
        self.file("base/Kubefile", "FROM scratch\nCOPY . .\n");
        fs::set_permissions(self.path("base/bin/kubeadm"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("kubeadm", self.path("base/bin/kubectl")).unwrap();
        fs::hard_link(self.path("base/bin/kubeadm"), self.path("base/bin/kubelet")).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("GANTRY_ROOT", self.path("root"))
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a command that fails with `code` says.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stderr)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Ids of the image's layers; they are unpacked then.
    fn layers(&self, image: &str) -> Vec<String> {
        let document = self.json(&["inspect", image, "-o", "json"]);
        let layers = document["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| layer["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn layer(&self, id: &str) -> PathBuf {
        self.path("root/data/overlay2").join(id)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

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
    fs::write(here.path("short.tar"), &bytes[..bytes.len() / 2]).unwrap();
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
            .fails(5, &["load", "-i", "missing.tar"])
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
    assert_eq!(blobs(), before, "the layer of COPY is not kept");
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
