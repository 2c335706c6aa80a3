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
    spec: ScriptSpec,
    cancel: CancellationToken,
) -> StepOutcome {
    let cluster = spec.cluster.clone();
    let program = move |rootfs: &Path, _: &Generation| {
        Program::script(&spec, rootfs).map_err(|error| error.to_string())
    };
    run_program(host, id, cluster, program, cancel).await
}

pub(super) async fn run_image_command(
    host: Host,
    id: StepId,
    spec: ImageCommand,
    again: bool,
    cancel: CancellationToken,
) -> StepOutcome {
    let cluster = spec.cluster.clone();
    let program = move |site: &LaunchSite<'_>| scripts::image_command(&spec, site);
    launch(host, id, cluster, program, again, cancel).await
}

pub(super) async fn launch_application(
    host: Host,
    id: StepId,
    spec: ApplicationLaunch,
    again: bool,
    cancel: CancellationToken,
) -> StepOutcome {
    let cluster = spec.cluster.clone();
    let program = move |site: &LaunchSite<'_>| scripts::launch_program(&spec, site);
    launch(host, id, cluster, program, again, cancel).await
}

pub(super) async fn run_image_plugin(
    host: Host,
    id: StepId,
    plugin: ImagePlugin,
    cancel: CancellationToken,
) -> StepOutcome {
    let cluster = plugin.command.cluster.clone();
    let (folder, store) = (host.scripts.folder(id), host.store.clone());
    let program = move |rootfs: &Path, current: &Generation| {
        scripts::image_plugin(&plugin, &store, &current.layers, rootfs, &folder)
    };
    run_program(host, id, cluster, program, cancel).await
}

pub(super) async fn run_shell_command(
    host: Host,
    id: StepId,
    spec: ShellCommand,
    cancel: CancellationToken,
) -> StepOutcome {
    let cluster = spec.cluster.clone();
    let (folder, generations) = (host.scripts.folder(id), host.rootfs.clone());
    let program = move |rootfs: &Path, _: &Generation| {
        if let CommandOrigin::Application(name) = &spec.origin {
            let configs = configs(&generations, &spec.cluster)?;
            templates::render_application(rootfs, name, &spec.env, &configs)
                .map_err(|error| format!("application {name} is not launched: {}", chain(&error)))?;
        }
        Ok(scripts::shell_command(&spec, rootfs, &folder))
    };
    run_program(host, id, cluster, program, cancel).await
}

pub(super) async fn run_kubeadm(
    host: Host,
    id: StepId,
    spec: KubeadmSpec,
    attempt: Attempt,
    cancel: CancellationToken,
) -> StepOutcome {
    let cluster = spec.cluster.clone();
    let folder = host.scripts.folder(id);
    let program = move |rootfs: &Path, _: &Generation| match (&spec.act, &attempt.pass) {
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
                &spec,
                pass.as_ref(),
                attempt.again,
                rootfs,
                &folder,
            ))
        }
    };
    run_program(host, id, cluster, program, cancel).await
}

pub(super) async fn run_kubectl(
    host: Host,
    id: StepId,
    cluster: ClusterName,
    call: KubectlCall,
    cancel: CancellationToken,
) -> StepOutcome {
    let (folder, of) = (host.scripts.folder(id), cluster.clone());
    let program = move |rootfs: &Path, _: &Generation| Ok(call.program(&of, rootfs, &folder));
    run_program(host, id, cluster, program, cancel).await
}

/// Runs what `program` makes of the place where applications are launched, to its end.
async fn launch(
    host: Host,
    id: StepId,
    cluster: ClusterName,
    program: impl FnOnce(&LaunchSite<'_>) -> Result<Program, String> + Send + 'static,
    again: bool,
    cancel: CancellationToken,
) -> StepOutcome {
    let (store, generations, of) = (host.store.clone(), host.rootfs.clone(), cluster.clone());
    let at_site = move |rootfs: &Path, generation: &Generation| {
        program(&LaunchSite {
            store: &store,
            generation,
            rootfs,
            configs: &configs(&generations, &of)?,
            again,
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
    cluster: ClusterName,
    program: impl FnOnce(&Path, &Generation) -> Result<Program, String> + Send + 'static,
    cancel: CancellationToken,
) -> StepOutcome {
    let generations = host.rootfs.clone();
    // Templates are rendered and files compared with the image's: that waits for the disk.
    let make = move || {
        let failed = |error: RootfsError| StepOutcome::Failed(chain(&error));
        let rootfs = generations.path(&cluster).map_err(failed)?;
        let current = generations.current_generation(&cluster).map_err(failed)?;
        let current = current
            .ok_or_else(|| StepOutcome::Failed(format!("cluster {cluster} has no generation here")))?;
        let program = program(&rootfs, &current).map_err(StepOutcome::Failed)?;
        Ok((program, rootfs, current))
    };
    let started = async {
        let made = tokio::task::spawn_blocking(make).await;
        let (program, rootfs, current) = made.unwrap_or_else(|error| {
            // It panicked half way.
            tracing::error!(step = %id.short(), "{error}");
            Err(StepOutcome::Unknown)
        })?;
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
