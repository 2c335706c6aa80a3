//! Which scripts of an image run, in which order, with which arguments. See the contract of old images:
//! `init.sh` on every host, then `init-registry.sh` on the registry's host; images without `init.sh` bring
//! `docker.sh` or `containerd.sh` and `init-kube.sh`.

use gantry_model::ExitCode;

use super::PlanImage;
use crate::clusterfile::Clusterfile;
use crate::exit::failure_hint;

/// First argument of `init.sh`: where docker keeps its data.
const DOCKER_DATA: &str = "/var/lib/docker";
/// After this the script and everything it started is ended, in seconds. Installing a runtime takes minutes.
pub(super) const SCRIPT_TIME_LIMIT_S: u32 = 3600;

/// A script and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Name below `scripts/`.
    pub(crate) script: &'static str,
    /// Arguments. `{rootfs}` stands for the rootfs.
    pub(crate) args: Vec<String>,
}

impl Call {
    /// The script's path below the rootfs.
    pub(super) fn path(&self) -> String {
        format!("scripts/{}", self.script)
    }
}

/// The container runtime: what the Clusterfile says, or the image's label, or the script the image has.
pub(super) fn runtime(clusterfile: &Clusterfile, image: &PlanImage) -> String {
    let by_script = || {
        if has(image, "containerd.sh") && !has(image, "docker.sh") {
            "containerd"
        } else {
            "docker"
        }
    };
    clusterfile
        .runtime
        .clone()
        .or_else(|| image.runtime.clone())
        .unwrap_or_else(|| by_script().into())
}

/// What runs on every host to make it part of the cluster, in order.
///
/// # Errors
/// When the image has no script for it.
pub(super) fn init(clusterfile: &Clusterfile, image: &PlanImage) -> anyhow::Result<Vec<Call>> {
    let registry = &clusterfile.registry;
    if has(image, "init.sh") {
        let args = vec![
            DOCKER_DATA.into(),
            registry.domain.clone(),
            registry.port.to_string(),
        ];
        return Ok(vec![Call {
            script: "init.sh",
            args,
        }]);
    }
    let runtime = runtime(clusterfile, image);
    let script = if runtime == "containerd" {
        "containerd.sh"
    } else {
        "docker.sh"
    };
    if !has(image, script) {
        return Err(failure_hint(
            ExitCode::Input,
            format!(
                "image {} has neither scripts/init.sh nor scripts/{script}, so no host can be set up",
                image.reference
            ),
            "`gantry inspect` shows what an image is made of; a cluster's base image brings these scripts",
        ));
    }
    let mut calls = vec![Call {
        script,
        args: Vec::new(),
    }];
    if has(image, "init-kube.sh") {
        calls.push(Call {
            script: "init-kube.sh",
            args: Vec::new(),
        });
    }
    Ok(calls)
}

/// What runs on the registry's host, if the image brings a registry.
pub(super) fn registry(clusterfile: &Clusterfile, image: &PlanImage) -> Option<Call> {
    let registry = &clusterfile.registry;
    let args = vec![
        registry.port.to_string(),
        "{rootfs}/registry".into(),
        registry.domain.clone(),
    ];
    has(image, "init-registry.sh").then_some(Call {
        script: "init-registry.sh",
        args,
    })
}

/// What runs on every host before its rootfs goes.
pub(super) fn clean(image: &PlanImage) -> Option<Call> {
    has(image, "clean.sh").then_some(Call {
        script: "clean.sh",
        args: Vec::new(),
    })
}

/// What runs on the first master from when it comes to when it goes. An image that sets up no hosts has nothing of the kind.
pub(crate) fn of_first_master(clusterfile: &Clusterfile, image: &PlanImage) -> Vec<Call> {
    let init = init(clusterfile, image).unwrap_or_default();
    let registry = registry(clusterfile, image);
    init.into_iter().chain(registry).chain(clean(image)).collect()
}

fn has(image: &PlanImage, script: &str) -> bool {
    image.scripts.contains(script)
}
