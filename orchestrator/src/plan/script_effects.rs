//! What scripts of an image are there for, and the steps that look whether they did it: old images' scripts exit 0 too easily.
//!
//! Only what the image itself brings is expected of its scripts: a container runtime, kubelet, container images to serve.

use std::collections::BTreeSet;

use gantry_model::{
    ClusterName, EffectCheck, ScriptEffect, Step, StepAction, StepId, StepOutcome, StepRecord,
};
use gantry_store::ChunkSource;

use super::progress::{NOT_DONE, why_to_do};
use super::scripts::Call;
use super::{Mark, PlanImage, PlannedStep, kubeadm};
use crate::clusterfile::{Clusterfile, Host};
use crate::inventory::HostReport;

/// How long what a script started may take until it serves, in seconds.
const SERVES_LIMIT_S: u32 = 30;
/// Container runtimes, as Clusterfiles and labels of images name them.
const DOCKER: &str = "docker";
const CONTAINERD: &str = "containerd";
/// Folders in which images bring them, below the rootfs.
const FOLDERS: [&str; 3] = ["bin/", "cri/", "tgz/"];
/// Programs in `bin/`, which scripts bring to the host.
const KUBELET: &str = "kubelet";

/// Container runtimes that the merged `layers` bring, as programs or packed.
pub(super) fn runtimes(layers: &[ChunkSource]) -> BTreeSet<String> {
    let files: BTreeSet<String> = FOLDERS
        .iter()
        .flat_map(|folder| kubeadm::files_below(layers, folder))
        .collect();
    runtimes_of(&files)
}

/// Those that files of these names are. Docker brings a containerd, too, which is its own.
fn runtimes_of(files: &BTreeSet<String>) -> BTreeSet<String> {
    let is_packed = |name: &str, as_what: &[&str]| {
        let (name, is_archive) = match name.split_once(".t") {
            Some((name, end)) => (name, matches!(end, "gz" | "ar" | "ar.gz")),
            None => (name, false),
        };
        // `docker-20.10.tar.gz`, but not `docker-amd64-registry-image.tar.gz`.
        is_archive
            && !name.ends_with("-image")
            && as_what.iter().any(|what| {
                let rest = name.strip_prefix(what);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
    };
    let has_packed = |as_what: &[&str]| files.iter().any(|name| is_packed(name, as_what));
    let has_docker = files.contains("dockerd") || has_packed(&[DOCKER]);
    // `cri-containerd-cni-1.6.12-linux-amd64.tar.gz` is how containerd itself is released.
    let has_containerd = has_packed(&[CONTAINERD, "cri"]) || (files.contains(CONTAINERD) && !has_docker);
    let found = [(has_docker, DOCKER), (has_containerd, CONTAINERD)];
    let found = found.into_iter().filter(|(found, _)| *found);
    found.map(|(_, name)| name.to_owned()).collect()
}

/// The step on `host` that looks for the effects of `script`, which is how `call` runs there. None where it has none that
/// are known, or what came after it has shown them.
pub(super) fn step(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    call: &Call,
    script: &PlannedStep,
    report: Option<&HostReport>,
) -> Option<PlannedStep> {
    let effects = effects(clusterfile, image, call.script);
    if effects.is_empty() {
        return None;
    }
    let expected: Vec<String> = effects.iter().map(ToString::to_string).collect();
    let check = EffectCheck {
        cluster: clusterfile.name.clone(),
        script: call.path(),
        effects,
        time_limit_s: SERVES_LIMIT_S,
    };
    let step = Step {
        action: StepAction::CheckScriptEffect(check),
        after: vec![script.id],
    };
    let why = report.map_or_else(
        || Some(NOT_DONE.to_owned()),
        |report| why_to_do(step.id(), report),
    );
    match why {
        None => Some(PlannedStep::new(host.address, step, Mark::Done, "done")),
        Some(why) if why == NOT_DONE => {
            let shown = report.is_some_and(|report| is_shown(&clusterfile.name, script.id, report));
            let reason = expected.join(", ");
            (script.is_to_do() || !shown).then(|| PlannedStep::new(host.address, step, Mark::Add, reason))
        }
        Some(why) => Some(PlannedStep::new(host.address, step, Mark::Add, why)),
    }
}

/// Whether a planned step looks for effects: it changes nothing.
pub(super) const fn is_check(step: &PlannedStep) -> bool {
    matches!(step.step.action, StepAction::CheckScriptEffect(_))
}

/// What `script` is there for.
fn effects(clusterfile: &Clusterfile, image: &PlanImage, script: &str) -> Vec<ScriptEffect> {
    let mut effects = Vec::new();
    let installs_runtime = matches!(script, "init.sh" | "docker.sh" | "containerd.sh");
    if installs_runtime {
        effects.extend(runtime(clusterfile, image, script));
    }
    // Where there is no script of kubelet's own, the one before it does its work.
    let installs_kubelet = match script {
        "init.sh" | "init-kube.sh" => true,
        _ => installs_runtime && !image.scripts.contains("init-kube.sh"),
    };
    let kubernetes = image.kubernetes.as_ref();
    if installs_kubelet && kubernetes.is_some_and(|kubernetes| kubernetes.programs.contains(KUBELET)) {
        effects.push(ScriptEffect::KubeletIsEnabled);
    }
    if script == "init-registry.sh" && image.registry {
        effects.push(ScriptEffect::RegistryServes {
            domain: clusterfile.registry.domain.clone(),
            port: clusterfile.registry.port,
        });
    }
    effects
}

/// The container runtime that `script` installs, if the image brings it.
fn runtime(clusterfile: &Clusterfile, image: &PlanImage, script: &str) -> Option<ScriptEffect> {
    let brings = |name: &&str| image.runtimes.contains(*name) || image.runtime.as_deref() == Some(*name);
    let wanted = match script {
        "docker.sh" => Some(DOCKER),
        "containerd.sh" => Some(CONTAINERD),
        _ => {
            let words = [clusterfile.runtime.as_deref(), image.runtime.as_deref()];
            let mut names = words.into_iter().flatten().chain([DOCKER, CONTAINERD]);
            names.find(brings)
        }
    };
    match wanted.filter(brings)? {
        DOCKER => Some(ScriptEffect::DockerAnswers),
        CONTAINERD => Some(ScriptEffect::ContainerdAnswers),
        _ => None,
    }
}

/// Whether kubelet ran on the host since `script` did: it needs all that scripts install. So clusters that were made before
/// anybody looked are left alone.
fn is_shown(cluster: &ClusterName, script: StepId, report: &HostReport) -> bool {
    let needs_kubelet = |record: &StepRecord| {
        matches!(
            record.title.as_str(),
            "kubeadm init" | "kubeadm join" | "kubeadm upgrade" | "restart kubelet"
        )
    };
    let mut since = report
        .records(cluster)
        .skip_while(|record| record.id != script)
        .skip(1);
    since.any(|record| needs_kubelet(record) && record.outcome.as_ref().is_some_and(StepOutcome::succeeded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_known_by_its_program_or_by_how_it_is_packed() {
        for (files, runtimes) in [
            (vec!["docker.tar.gz"], vec!["docker"]),
            (vec!["docker-20.10.24.tgz", "kubeadm"], vec!["docker"]),
            (vec!["dockerd", "containerd", "ctr"], vec!["docker"]),
            (vec!["containerd", "ctr"], vec!["containerd"]),
            (vec!["containerd.tgz"], vec!["containerd"]),
            (
                vec!["cri-containerd-cni-1.6.12-linux-amd64.tar.gz"],
                vec!["containerd"],
            ),
            (vec!["cri-1.6.tar.gz", "docker.tar"], vec!["containerd", "docker"]),
            (
                vec![
                    "docker-amd64-registry-image.tar.gz",
                    "crictl",
                    "docker",
                    "docker.md",
                    "criminal.tar.gz",
                ],
                vec![],
            ),
        ] {
            let names = files.iter().map(|&name| name.to_owned()).collect();
            let found: Vec<String> = runtimes_of(&names).into_iter().collect();
            assert_eq!(found, runtimes, "{files:?}");
        }
    }
}
