//! One user of the image commands: the real binary, a store and folders of its own.

#![allow(dead_code, reason = "every test program uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// `nobody`: an ordinary user that every host has.
pub(crate) const ORDINARY_USER: u32 = 65534;

/// One user with a store and a folder to build in.
pub(crate) struct Desk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) program: PathBuf,
    pub(crate) user: Option<u32>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let desk = Self {
            dir,
            program: env!("CARGO_BIN_EXE_gantry").into(),
            user: None,
        };
        fs::create_dir(desk.path("base")).unwrap();
        // Whatever this machine's own policy is.
        desk.file(
            "policy.json",
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        );
        desk
    }

    /// The desk of somebody who is not root, whoever runs the test.
    pub(crate) fn of_an_ordinary_user() -> Self {
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

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    /// A rootfs in the shape of the rootfs page, and the Kubefile from there in it.
    pub(crate) fn base_context(&self) {
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
        // That kubeadm cannot be asked what it starts; this may be it.
        self.file(
            "base/registry/docker/registry/v2/repositories/kube-apiserver/_manifests/tags/v1/current/link",
            format!("sha256:{}", "0".repeat(64)),
        );
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

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("GANTRY_ROOT", self.path("root"))
            .env("GANTRY_SIGNATURE_POLICY", self.path("policy.json"))
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What a command that fails with `code` says.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stderr)
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Ids of the image's layers; they are unpacked then.
    pub(crate) fn layers(&self, image: &str) -> Vec<String> {
        let document = self.json(&["inspect", image, "-o", "json"]);
        let layers = document["layers"].as_array().unwrap();
        layers
            .iter()
            .map(|layer| layer["id"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn layer(&self, id: &str) -> PathBuf {
        self.path("root/data/overlay2").join(id)
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}
