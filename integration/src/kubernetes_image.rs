//! The image contexts of Kubernetes v1.20.2: out of Debian's source package, on docker with a registry in a container, and
//! on containerd with agents that serve its images.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use gantry_model::Digest;

use crate::demo_image::{self, recipe_key, recipes};
use crate::{apt, cache, command};

/// What its programs come from, besides the demonstration's and those that are built: the pods' network, etcd, and
/// what kube-proxy calls, with libraries.
const PACKAGES: &[&str] = &[
    "containernetworking-plugins",
    "etcd-server",
    "ipset",
    "iptables",
    "kmod",
    "libip4tc2",
    "libip6tc2",
    "libipset13",
    "libkmod2",
    "liblzma5",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libssl3",
    "libxtables12",
    "libzstd1",
];

/// Which container runtime an image brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Docker: the image `kubernetes:v1.20.2`, with `init.sh` and `init-registry.sh`.
    Docker,
    /// Containerd: the image `kubernetes-containerd:v1.20.2`, with `containerd.sh` and `init-kube.sh`.
    Containerd,
}

impl Runtime {
    /// The folder of the image's recipe, and the image's name.
    #[must_use]
    pub const fn image(self) -> &'static str {
        match self {
            Self::Docker => "kubernetes",
            Self::Containerd => "kubernetes-containerd",
        }
    }
}

/// The context folder, put together once by the `assemble.sh` of its recipe and cached.
///
/// The first time on a machine that takes a quarter of an hour: the programs are built.
///
/// # Errors
/// When a package cannot be had, or the recipe fails; the message holds its output.
pub fn kubernetes_image(runtime: Runtime) -> Result<PathBuf> {
    match runtime {
        Runtime::Docker => context(runtime.image(), &[]),
        Runtime::Containerd => context(runtime.image(), &[runtime.image()]),
    }
}

/// The context folder of the image `kubernetes:v1.20.3`, to which a cluster of `kubernetes:v1.20.2` is upgraded.
///
/// # Errors
/// As [`kubernetes_image`].
pub fn next_kubernetes_image() -> Result<PathBuf> {
    context("kubernetes-next", &["kubernetes-next"])
}

/// The context folder that the recipe in the folder `name` puts together; `parts` are what it has beside what all have.
fn context(name: &str, parts: &[&str]) -> Result<PathBuf> {
    let binaries = binaries()?;
    let packages = [demo_image::PACKAGES, PACKAGES].concat();
    let packages_key = &Digest::of(packages.join(" ").as_bytes()).hex()[..12];
    let packages = apt::unpacked(&format!("kubernetes-packages-{packages_key}"), &packages)?;
    let recipe_key = recipe_key(&[&["parts.sh", "demo", "kubernetes"], parts].concat())?;
    cache::made_once(&format!("{name}-image-{recipe_key}-{packages_key}"), |context| {
        let mut assemble = Command::new(recipes().join(name).join("assemble.sh"));
        assemble.args([&packages, &binaries]).arg(context);
        command::run(&mut assemble)?.ok().map(drop)
    })
}

/// The programs that are built, by `images/kubernetes/binaries.sh`. Nothing but that file makes them others: it names
/// the version of Kubernetes.
fn binaries() -> Result<PathBuf> {
    let key = recipe_key(&["kubernetes/binaries.sh"])?;
    cache::made_once(&format!("kubernetes-binaries-{key}"), |folder| {
        command::run(Command::new(recipes().join("kubernetes/binaries.sh")).arg(folder))?
            .ok()
            .map(drop)
    })
}
