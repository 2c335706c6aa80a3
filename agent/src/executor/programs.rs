//! Runs a program for a step, to its end: a script, a command, kubeadm, kubectl.

use std::path::Path;

use gantry_model::{
    ApplicationLaunch, ClusterName, CommandOrigin, Generation, ImageCommand, ImagePlugin, JoinPass,
    KubeadmAct, KubeadmSpec, ScriptSpec, ShellCommand, StepId, StepOutcome,
};
use gantry_system::processes::ProcessError;
use tokio_util::sync::CancellationToken;

use super::perform::chain;
use crate::configs::Configs;
use crate::host::Host;
use crate::kubeadm::{self, KubectlCall};
use crate::rootfs::{Rootfs, RootfsError};
use crate::scripts::{self, LaunchSite, Program, ScriptError};
use crate::templates;

/// What one attempt at a step has beside the step.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// What lets this host join a cluster.
    pub(super) pass: Option<JoinPass>,
    /// An earlier attempt may have left something behind.
    pub(super) again: bool,
}

pub(super) async fn run_script(
    host: Host,
    id: StepId,
    spec: &ScriptSpec,
    cancel: CancellationToken,
) -> StepOutcome {
    let program =
        |rootfs: &Path, _: &Generation| Program::script(spec, rootfs).map_err(|error| error.to_string());
    run_program(host, id, &spec.cluster, program, cancel).await
}

pub(super) async fn run_image_command(
    host: Host,
    id: StepId,
    spec: &ImageCommand,
    cancel: CancellationToken,
) -> StepOutcome {
    let program = |site: &LaunchSite<'_>| scripts::image_command(spec, site);
    launch(host, id, &spec.cluster, program, cancel).await
}

pub(super) async fn launch_application(
    host: Host,
    id: StepId,
    spec: &ApplicationLaunch,
    cancel: CancellationToken,
) -> StepOutcome {
    let program = |site: &LaunchSite<'_>| scripts::launch_program(spec, site);
    launch(host, id, &spec.cluster, program, cancel).await
}

pub(super) async fn run_image_plugin(
    host: Host,
    id: StepId,
    plugin: &ImagePlugin,
    cancel: CancellationToken,
) -> StepOutcome {
    let (folder, store) = (host.scripts.folder(id), host.store.clone());
    let program = |rootfs: &Path, current: &Generation| {
        scripts::image_plugin(plugin, &store, &current.layers, rootfs, &folder)
    };
    run_program(host, id, &plugin.command.cluster, program, cancel).await
}

pub(super) async fn run_shell_command(
    host: Host,
    id: StepId,
    spec: &ShellCommand,
    cancel: CancellationToken,
) -> StepOutcome {
    let (folder, generations) = (host.scripts.folder(id), host.rootfs.clone());
    let program = |rootfs: &Path, _: &Generation| {
        if let CommandOrigin::Application(name) = &spec.origin {
            let configs = configs(&generations, &spec.cluster)?;
            templates::render_application(rootfs, name, &spec.env, &configs)
                .map_err(|error| format!("application {name} is not launched: {}", chain(&error)))?;
        }
        Ok(scripts::shell_command(spec, rootfs, &folder))
    };
    run_program(host, id, &spec.cluster, program, cancel).await
}

pub(super) async fn run_kubeadm(
    host: Host,
    id: StepId,
    spec: &KubeadmSpec,
    attempt: &Attempt,
    cancel: CancellationToken,
) -> StepOutcome {
    let folder = host.scripts.folder(id);
    let program = |rootfs: &Path, _: &Generation| match (&spec.act, &attempt.pass) {
        (KubeadmAct::Join { .. }, None) => Err("a host joins with a pass only; apply again".to_owned()),
        (act, pass) => {
            match act {
                KubeadmAct::Init
                | KubeadmAct::Join {
                    control_plane: true, ..
                } => kubeadm::place_statics(rootfs),
                KubeadmAct::Upgrade { .. } if kubeadm::is_control_plane() => kubeadm::place_statics(rootfs),
                KubeadmAct::Reset => kubeadm::remove_statics(rootfs),
                KubeadmAct::Join { .. } | KubeadmAct::Upgrade { .. } => Ok(()),
            }
            .map_err(|error| error.to_string())?;
            Ok(kubeadm::program(
                spec,
                pass.as_ref(),
                attempt.again,
                rootfs,
                &folder,
            ))
        }
    };
    run_program(host, id, &spec.cluster, program, cancel).await
}

pub(super) async fn run_kubectl(
    host: Host,
    id: StepId,
    cluster: &ClusterName,
    call: KubectlCall,
    cancel: CancellationToken,
) -> StepOutcome {
    let folder = host.scripts.folder(id);
    let program = |rootfs: &Path, _: &Generation| Ok(call.program(cluster, rootfs, &folder));
    run_program(host, id, cluster, program, cancel).await
}

/// Runs what `program` makes of the place where applications are launched, to its end.
async fn launch(
    host: Host,
    id: StepId,
    cluster: &ClusterName,
    program: impl FnOnce(&LaunchSite<'_>) -> Result<Program, String>,
    cancel: CancellationToken,
) -> StepOutcome {
    let (store, generations) = (host.store.clone(), host.rootfs.clone());
    let at_site = |rootfs: &Path, generation: &Generation| {
        program(&LaunchSite {
            store: &store,
            generation,
            rootfs,
            configs: &configs(&generations, cluster)?,
        })
    };
    run_program(host, id, cluster, at_site, cancel).await
}

fn configs(generations: &Rootfs, cluster: &ClusterName) -> Result<Configs, String> {
    generations.configs(cluster).map_err(|error| chain(&error))
}

/// Runs what `program` makes of the current rootfs and its generation, to its end.
async fn run_program(
    host: Host,
    id: StepId,
    cluster: &ClusterName,
    program: impl FnOnce(&Path, &Generation) -> Result<Program, String>,
    cancel: CancellationToken,
) -> StepOutcome {
    let started = async {
        let failed = |error: RootfsError| StepOutcome::Failed(chain(&error));
        let rootfs = host.rootfs.path(cluster).map_err(failed)?;
        let current = host.rootfs.current_generation(cluster).map_err(failed)?;
        let current = current
            .ok_or_else(|| StepOutcome::Failed(format!("cluster {cluster} has no generation here")))?;
        let program = program(&rootfs, &current).map_err(StepOutcome::Failed)?;
        host.scripts
            .start(id, &program, &rootfs, &host.store, &current.layers)
            .await
            .map_err(|error| match error {
                // It may have started all the same.
                ScriptError::Systemd {
                    source: ProcessError::TimedOut { .. },
                    ..
                } => StepOutcome::Unknown,
                error => StepOutcome::Failed(chain(&error)),
            })
    };
    match started.await {
        Ok(()) => watch_program(host, id, cancel).await,
        Err(outcome) => outcome,
    }
}

/// Waits for the end of a program that runs.
pub(super) async fn watch_program(host: Host, id: StepId, cancel: CancellationToken) -> StepOutcome {
    match host.scripts.watch(id, &cancel).await {
        Ok(outcome) => StepOutcome::Script(outcome),
        Err(error @ ScriptError::NotStarted { .. }) => StepOutcome::Failed(error.to_string()),
        Err(error) => {
            tracing::error!(step = %id.short(), "{}", chain(&error));
            StepOutcome::Unknown
        }
    }
}
