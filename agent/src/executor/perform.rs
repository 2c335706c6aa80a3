//! Does what a step says. By now the journal has it as started.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use gantry_model::{
    ClusterName, CommandMoment, ConfigFile, Digest, GenerationId, KubeadmAct, LayerDescriptor, Step,
    StepAction, StepOutcome,
};
use gantry_protocol::TransferProgress;
use gantry_system::memory;
use gantry_transport::Connection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::programs::{self, Attempt};
use crate::balancer::Settings;
use crate::etcd::Absence;
use crate::host::Host;
use crate::kubeadm::{self, KubectlCall};
use crate::staging::StagingError;
use crate::{etcd, script_effects, staging, templates};

/// Longest reason of a failure: it is kept in the journal and travels in every inventory.
const MAX_REASON_LEN: usize = 4096;

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
    tokio::select! {
        () = wait_for_what_it_asks(&host, &step.action) => {}
        () = cancel.cancelled() => {}
    }
    match step.action {
        StepAction::Stage { layers, .. } => {
            let outcome = stage(&host, peers, &layers, progress, cancel).await;
            memory::give_back();
            outcome
        }
        StepAction::RunScript(spec) => programs::run_script(host, id, spec, cancel).await,
        StepAction::RunImageCommand(spec) => {
            programs::run_image_command(host, id, spec, attempt.again, cancel).await
        }
        StepAction::RunShellCommand(command) => programs::run_shell_command(host, id, command, cancel).await,
        StepAction::RunImagePlugin(plugin) => programs::run_image_plugin(host, id, plugin, cancel).await,
        StepAction::LaunchApplication(spec) => {
            programs::launch_application(host, id, spec, attempt.again, cancel).await
        }
        StepAction::Kubeadm(spec) => programs::run_kubeadm(host, id, spec, attempt, cancel).await,
        StepAction::SetBalancer {
            cluster,
            listen,
            backends,
        } => {
            let settings = Settings::new(listen, &backends);
            ended(host.balancers.set(&cluster, &settings).await)
        }
        StepAction::RemoveBalancer { cluster } => ended(host.balancers.remove(&cluster).await),
        StepAction::SetRegistry {
            cluster,
            domain,
            port,
        } => ended(host.registries.set(&cluster, &domain, port).await),
        StepAction::RemoveRegistry { cluster } => ended(host.registries.remove(&cluster).await),
        StepAction::WaitForNodes {
            cluster,
            time_limit_s,
            except,
        } => {
            let call = KubectlCall::WaitForNodes {
                limit_s: time_limit_s,
                except,
            };
            programs::run_kubectl(host, id, cluster, call, cancel).await
        }
        StepAction::DrainNode {
            cluster,
            node,
            time_limit_s,
            leaves,
        } => {
            let call = KubectlCall::Drain {
                node,
                limit_s: time_limit_s,
                leaves,
            };
            programs::run_kubectl(host, id, cluster, call, cancel).await
        }
        StepAction::DeleteNode { cluster, node } => {
            programs::run_kubectl(host, id, cluster, KubectlCall::DeleteNode { node }, cancel).await
        }
        StepAction::RenewCertificates { cluster, .. } => ended(kubeadm::renew(&host, &cluster).await),
        // Not left off half way: each of them goes on to where the host serves again.
        StepAction::MakeClusterCa { cluster, replaces } => {
            ended(kubeadm::make_cluster_ca(&host, &cluster, &replaces).await)
        }
        StepAction::TrustClusterCas { cluster, authorities } => {
            ended(kubeadm::trust_cluster_cas(&host, &cluster, &authorities).await)
        }
        StepAction::PublishClusterCas { cluster, authorities } => {
            ended(kubeadm::publish_cluster_cas(&host, &cluster, &authorities).await)
        }
        StepAction::WithdrawClusterCa {
            cluster,
            ca,
            authorities,
        } => ended(kubeadm::withdraw_cluster_ca(&host, &cluster, &ca, &authorities).await),
        StepAction::SignByClusterCa { cluster, ca, from } => match (from, &attempt.pass) {
            (Some(_), None) => StepOutcome::Failed("the CA's key comes by a pass only; run it again".into()),
            (from, pass) => {
                let key = from.zip(pass.as_ref());
                ended(kubeadm::sign_by_cluster_ca(&host, &cluster, &ca, key).await)
            }
        },
        StepAction::RenewKubeletCertificate { cluster, ca } => {
            ended(kubeadm::renew_kubelet_certificate(&host, &cluster, &ca).await)
        }
        StepAction::KeepEtcdSnapshot { cluster, before } => {
            ended(host.etcd_snapshots.keep(&cluster, &before).await)
        }
        StepAction::StopApiServer { cluster } => {
            unless_cancelled(&cancel, kubeadm::stop_api_server(&host, &cluster)).await
        }
        StepAction::RestoreEtcd { cluster, snapshot } => {
            unless_cancelled(&cancel, host.etcd_snapshots.restore(&cluster, &snapshot)).await
        }
        StepAction::StartApiServer { cluster } => {
            unless_cancelled(&cancel, kubeadm::start_api_server(&host, &cluster)).await
        }
        StepAction::CordonNode { cluster, node } => {
            unless_cancelled(&cancel, kubeadm::cordon(&host, &cluster, &node)).await
        }
        StepAction::RestartKubelet { cluster } => {
            unless_cancelled(&cancel, kubeadm::restart_kubelet(&host, &cluster)).await
        }
        StepAction::PublishKubeletConfiguration { cluster, config } => {
            ended(kubeadm::publish_kubelet_configuration(&host, &cluster, &config).await)
        }
        // Kubelet may run with what it was told before; it is not left off between the two.
        StepAction::ConfigureKubelet { cluster } => {
            ended(kubeadm::configure_kubelet(&host, &cluster, attempt.again).await)
        }
        StepAction::UncordonNode {
            cluster,
            node,
            version,
            time_limit_s,
        } => {
            let limit = Duration::from_secs(time_limit_s.into());
            unless_cancelled(
                &cancel,
                kubeadm::uncordon(&host, &cluster, &node, &version, limit),
            )
            .await
        }
        StepAction::WaitForSystemPods {
            cluster,
            time_limit_s,
        } => {
            let limit = Duration::from_secs(time_limit_s.into());
            unless_cancelled(&cancel, kubeadm::wait_for_system_pods(&host, &cluster, limit)).await
        }
        StepAction::CheckQuorum { address, .. } => ended(etcd::check(address, Absence::ForGood).await),
        StepAction::CheckQuorumMeanwhile { address, .. } => {
            ended(etcd::check(address, Absence::Meanwhile).await)
        }
        StepAction::RemoveEtcdMember { address, .. } => ended(etcd::remove(address).await),
        StepAction::MarkNodes { cluster, groups } => {
            unless_cancelled(&cancel, kubeadm::mark_nodes(&host, &cluster, &groups)).await
        }
        StepAction::CheckScriptEffect(check) => {
            unless_cancelled(&cancel, script_effects::look(&host, &check)).await
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
        StepAction::WriteConfigs { cluster, files } => {
            on_thread(move || write_configs(&host, &cluster, &files).map(|()| None)).await
        }
        StepAction::SetHostname { cluster, name } => {
            on_thread(move || host.hostnames.set(&cluster, &name).map(|()| None)).await
        }
        StepAction::RestoreHostname { cluster } => {
            on_thread(move || host.hostnames.restore(&cluster).map(|()| None)).await
        }
        StepAction::RemoveHostsEntries { cluster } => {
            on_thread(move || host.hosts_file.remove(&cluster).map(|_| None)).await
        }
        StepAction::RemoveRootfs { cluster } => {
            let remove = host.clone();
            let removed = on_thread(move || remove_rootfs(&remove, &cluster).map(|()| None)).await;
            // Another cluster on this host needs them as they are.
            if !removed.succeeded() || !host.rootfs.clusters().is_empty() {
                return removed;
            }
            let restored = ended(host.kernel_settings.restore().await);
            if !restored.succeeded() {
                return restored;
            }
            on_thread(move || host.pod_logs.remove().map(|()| None)).await
        }
        StepAction::RemoveUnusedLayers => on_thread(move || remove_unused_layers(&host).map(|()| None)).await,
        // Done by the task that owns the journal, without starting anything.
        StepAction::ForgetCluster { .. } => StepOutcome::Done { generation: None },
    }
}

/// A host that has just booted has its agent before its control plane: what asks that waits for it.
async fn wait_for_what_it_asks(host: &Host, action: &StepAction) {
    let Some(cluster) = action.cluster() else {
        return;
    };
    if asks_etcd(action) {
        etcd::wait_for_etcd(cluster).await;
    } else if asks_api_server(action) {
        kubeadm::wait_for_api_server(host, cluster).await;
    }
}

/// Whether what is done asks etcd itself: the API server may be stopped then, for a restore.
const fn asks_etcd(action: &StepAction) -> bool {
    matches!(
        action,
        StepAction::KeepEtcdSnapshot { .. }
            | StepAction::RestoreEtcd { .. }
            | StepAction::CheckQuorum { .. }
            | StepAction::CheckQuorumMeanwhile { .. }
            | StepAction::RemoveEtcdMember { .. }
    )
}

/// Whether what is done asks the API server without trying again by itself.
fn asks_api_server(action: &StepAction) -> bool {
    // Before that there is none, and a host that is given back may have lost its own.
    let of_members = |when| {
        matches!(
            when,
            CommandMoment::AfterJoin
                | CommandMoment::BeforeCommands
                | CommandMoment::Commands
                | CommandMoment::AfterCommands
                | CommandMoment::AfterUpgrade
                | CommandMoment::AfterRollback
                | CommandMoment::AfterScaleUp
        )
    };
    match action {
        StepAction::Kubeadm(spec) => matches!(spec.act, KubeadmAct::Upgrade { .. }),
        StepAction::RunShellCommand(command) => of_members(command.when),
        StepAction::RunImagePlugin(plugin) => of_members(plugin.command.when),
        StepAction::RunImageCommand(_)
        | StepAction::LaunchApplication(_)
        | StepAction::WaitForNodes { .. }
        | StepAction::DrainNode { .. }
        | StepAction::DeleteNode { .. }
        | StepAction::MarkNodes { .. }
        | StepAction::PublishKubeletConfiguration { .. }
        | StepAction::ConfigureKubelet { .. }
        | StepAction::PublishClusterCas { .. } => true,
        _ => false,
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
            Err(error @ StagingError::Damaged { .. }) => StepOutcome::Damaged(chain(&error)),
            Err(error) => StepOutcome::Failed(chain(&error)),
        };
    }
}

fn render_templates(
    host: &Host,
    cluster: &ClusterName,
    values: &BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let configs = host.rootfs.configs(cluster)?;
    let rendered = templates::render_all(configs.rootfs(), values, &configs)?;
    host.rootfs.note_rendered(cluster, &rendered)?;
    tracing::info!(%cluster, count = rendered.len(), "templates rendered");
    Ok(())
}

fn write_configs(host: &Host, cluster: &ClusterName, files: &[ConfigFile]) -> anyhow::Result<()> {
    host.rootfs.configs(cluster)?.write(files)?;
    tracing::info!(%cluster, count = files.len(), "config files written");
    Ok(())
}

fn remove_rootfs(host: &Host, cluster: &ClusterName) -> anyhow::Result<()> {
    for target in host.rootfs.remove(cluster)? {
        tracing::warn!(%cluster, "{} was in use; it vanishes when its last user ends", target.display());
    }
    Ok(host.etcd_snapshots.remove(cluster)?)
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

/// Does what can be left off at any moment.
async fn unless_cancelled<E: Error>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<(), E>>,
) -> StepOutcome {
    tokio::select! {
        result = work => ended(result),
        () = cancel.cancelled() => StepOutcome::Failed("cancelled".into()),
    }
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
