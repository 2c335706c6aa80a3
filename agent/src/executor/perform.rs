//! Does what a step says. By now the journal has it as started.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

use gantry_model::{
    ClusterName, Digest, GenerationId, JoinPass, KubeadmAct, KubeadmSpec, LayerDescriptor, ScriptSpec, Step,
    StepAction, StepId, StepOutcome,
};
use gantry_protocol::TransferProgress;
use gantry_system::processes::ProcessError;
use gantry_transport::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::balancer::Settings;
use crate::host::Host;
use crate::kubeadm::KubectlCall;
use crate::rootfs::RootfsError;
use crate::scripts::{Program, ScriptError};
use crate::{kubeadm, scripts, staging, templates};

/// Longest reason of a failure: it is kept in the journal and travels in every inventory.
const MAX_REASON_LEN: usize = 4096;

/// What one attempt at a step has beside the step.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// What lets this host join a cluster.
    pub(super) pass: Option<JoinPass>,
    /// An earlier attempt may have left something behind.
    pub(super) again: bool,
}

/// Does `step` to its end, or until `cancel` is cancelled where that is possible.
pub(super) async fn perform(
    host: Host,
    step: Step,
    attempt: Attempt,
    peers: watch::Receiver<Option<Connection>>,
    progress: watch::Sender<TransferProgress>,
    cancel: CancellationToken,
) -> StepOutcome {
    let id = step.id();
    match step.action {
        StepAction::Stage { layers, .. } => stage(&host, peers, &layers, progress, cancel).await,
        StepAction::RunScript(spec) => run_script(host, id, &spec, cancel).await,
        StepAction::RunImageCommand(spec) => {
            let program = |rootfs: &Path, image: &Digest| scripts::image_command(&spec, image, rootfs);
            run_program(host, id, &spec.cluster, program, cancel).await
        }
        StepAction::Kubeadm(spec) => run_kubeadm(host, id, &spec, &attempt, cancel).await,
        StepAction::SetBalancer {
            cluster,
            listen,
            backends,
        } => {
            let settings = Settings::new(listen, &backends);
            ended(host.balancers.set(&cluster, &settings).await)
        }
        StepAction::RemoveBalancer { cluster } => ended(host.balancers.remove(&cluster).await),
        StepAction::WaitForNodes {
            cluster,
            time_limit_s,
        } => {
            let call = KubectlCall::WaitForNodes {
                limit_s: time_limit_s,
            };
            run_kubectl(host, id, &cluster, call, cancel).await
        }
        StepAction::DrainNode {
            cluster,
            node,
            time_limit_s,
        } => {
            let call = KubectlCall::Drain {
                node,
                limit_s: time_limit_s,
            };
            run_kubectl(host, id, &cluster, call, cancel).await
        }
        StepAction::DeleteNode { cluster, node } => {
            run_kubectl(host, id, &cluster, KubectlCall::DeleteNode { node }, cancel).await
        }
        StepAction::AssembleRootfs {
            cluster,
            image,
            layers,
        } => {
            let assemble = move || host.rootfs.assemble(&cluster, &image, &layers).map(Some);
            on_thread(assemble).await
        }
        StepAction::WriteHostsEntries { cluster, entries } => {
            on_thread(move || host.hosts_file.write(&cluster, &entries).map(|_| None)).await
        }
        StepAction::RenderTemplates { cluster, values } => {
            on_thread(move || render_templates(&host, &cluster, &values).map(|()| None)).await
        }
        StepAction::RemoveHostsEntries { cluster } => {
            on_thread(move || host.hosts_file.remove(&cluster).map(|_| None)).await
        }
        StepAction::RemoveRootfs { cluster } => {
            on_thread(move || remove_rootfs(&host, &cluster).map(|()| None)).await
        }
        StepAction::RemoveUnusedLayers => on_thread(move || remove_unused_layers(&host).map(|()| None)).await,
        // Done by the task that owns the journal, without starting anything.
        StepAction::ForgetCluster { .. } => StepOutcome::Done { generation: None },
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

/// Stages from whoever asked last: an orchestrator that was killed and started again serves at once, instead of
/// waiting with us until its old connection is given up.
async fn stage(
    host: &Host,
    mut peers: watch::Receiver<Option<Connection>>,
    layers: &[LayerDescriptor],
    progress: watch::Sender<TransferProgress>,
    cancel: CancellationToken,
) -> StepOutcome {
    loop {
        let Some(peer) = peers.borrow_and_update().clone() else {
            return StepOutcome::Failed(
                "there is no connection to fetch layers over; run the step again".into(),
            );
        };
        let this_peer = cancel.child_token();
        let mut staging = std::pin::pin!(staging::stage(
            &host.store,
            &peer,
            layers,
            progress.clone(),
            this_peer.clone()
        ));
        let ended = tokio::select! {
            ended = &mut staging => ended,
            Ok(()) = peers.changed() => {
                this_peer.cancel();
                // What arrived is made durable first: it does not travel again.
                match staging.await {
                    Err(_) if !cancel.is_cancelled() => continue,
                    ended => ended,
                }
            }
        };
        return match ended {
            Ok(_) => StepOutcome::Done { generation: None },
            Err(error) => StepOutcome::Failed(chain(&error)),
        };
    }
}

async fn run_script(host: Host, id: StepId, spec: &ScriptSpec, cancel: CancellationToken) -> StepOutcome {
    let program =
        |rootfs: &Path, _: &Digest| Program::script(spec, rootfs).map_err(|error| error.to_string());
    run_program(host, id, &spec.cluster, program, cancel).await
}

async fn run_kubeadm(
    host: Host,
    id: StepId,
    spec: &KubeadmSpec,
    attempt: &Attempt,
    cancel: CancellationToken,
) -> StepOutcome {
    let folder = host.scripts.folder(id);
    let program = |rootfs: &Path, _: &Digest| match (&spec.act, &attempt.pass) {
        (KubeadmAct::Join { .. }, None) => Err("a host joins with a pass only; apply again".to_owned()),
        (_, pass) => Ok(kubeadm::program(
            spec,
            pass.as_ref(),
            attempt.again,
            rootfs,
            &folder,
        )),
    };
    run_program(host, id, &spec.cluster, program, cancel).await
}

async fn run_kubectl(
    host: Host,
    id: StepId,
    cluster: &ClusterName,
    call: KubectlCall,
    cancel: CancellationToken,
) -> StepOutcome {
    let folder = host.scripts.folder(id);
    let program = |rootfs: &Path, _: &Digest| Ok(call.program(cluster, rootfs, &folder));
    run_program(host, id, cluster, program, cancel).await
}

/// Runs what `program` makes of the current rootfs and its image, to its end.
async fn run_program(
    host: Host,
    id: StepId,
    cluster: &ClusterName,
    program: impl FnOnce(&Path, &Digest) -> Result<Program, String>,
    cancel: CancellationToken,
) -> StepOutcome {
    let started = async {
        let failed = |error: RootfsError| StepOutcome::Failed(chain(&error));
        let rootfs = host.rootfs.path(cluster).map_err(failed)?;
        let current = host.rootfs.current_generation(cluster).map_err(failed)?;
        let current = current
            .ok_or_else(|| StepOutcome::Failed(format!("cluster {cluster} has no generation here")))?;
        let program = program(&rootfs, &current.image).map_err(StepOutcome::Failed)?;
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

fn render_templates(
    host: &Host,
    cluster: &ClusterName,
    values: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let rendered = templates::render_all(&host.rootfs.path(cluster)?, values)?;
    host.rootfs.note_rendered(cluster, &rendered)?;
    tracing::info!(%cluster, count = rendered.len(), "templates rendered");
    Ok(())
}

fn remove_rootfs(host: &Host, cluster: &ClusterName) -> Result<(), RootfsError> {
    for target in host.rootfs.remove(cluster)? {
        tracing::warn!(%cluster, "{} was in use; it vanishes when its last user ends", target.display());
    }
    Ok(())
}

/// Layers of generations are in use; layers of images in this host's own store are somebody's, too.
fn remove_unused_layers(host: &Host) -> anyhow::Result<()> {
    let mut used: BTreeSet<Digest> = BTreeSet::new();
    for cluster in host.rootfs.clusters() {
        for generation in host.rootfs.generations(&cluster)? {
            used.extend(generation.layers);
        }
    }
    for (_, image) in host.store.images()? {
        used.extend(image?.layers.iter().map(|layer| layer.digest));
    }
    let partial = host.store.partial_layers()?.into_iter().map(|(layer, _)| layer);
    for layer in host
        .store
        .layers()?
        .into_iter()
        .chain(partial)
        .filter(|layer| !used.contains(layer))
    {
        host.store.remove_layer(&layer)?;
        tracing::info!("removed layer {}", layer.short());
    }
    Ok(())
}

fn ended<E: Error>(result: Result<(), E>) -> StepOutcome {
    match result {
        Ok(()) => StepOutcome::Done { generation: None },
        Err(error) => StepOutcome::Failed(chain(&error)),
    }
}

/// Runs what waits for the disk on a thread that may wait.
async fn on_thread<E>(work: impl FnOnce() -> Result<Option<GenerationId>, E> + Send + 'static) -> StepOutcome
where
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(generation)) => StepOutcome::Done { generation },
        Ok(Err(error)) => StepOutcome::Failed(chain(&*error.into())),
        // It panicked half way.
        Err(error) => {
            tracing::error!("{error}");
            StepOutcome::Unknown
        }
    }
}

/// An error with all its causes in one line, cut at [`MAX_REASON_LEN`]. A cause that the text before it says already
/// is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    if text.len() > MAX_REASON_LEN {
        text.truncate(text.floor_char_boundary(MAX_REASON_LEN));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open x")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write: {0}")]
        struct Inner(#[source] std::io::Error);
        let error = Outer(Inner(std::io::Error::other("disk full")));
        assert_eq!(chain(&error), "cannot open x: cannot write: disk full");
    }
}
