//! Looks before a step starts: can it be done at all, and is its effect here already.

use gantry_model::{
    Digest, KubeadmAct, KubeadmSpec, SnapshotName, Step, StepAction, StepOutcome, StepRecord,
};
use gantry_protocol::limits::{MAX_LAYERS, MAX_TEMPLATE_VALUES};

use crate::balancer::{self, Settings};
use crate::config::DEFAULT_PATH;
use crate::host::Host;
use crate::journal::Journal;
use crate::{configs, hostname, hosts_file, kubeadm, registry, script_effects, scripts, templates};

/// Whether `step` is within bounds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(step: &Step) -> Result<(), String> {
    let layers = match &step.action {
        StepAction::Stage { layers, .. } => layers.len(),
        StepAction::AssembleRootfs { layers, .. } => layers.len(),
        StepAction::WriteHostsEntries { entries, .. } => return hosts_file::check(entries),
        StepAction::RenderTemplates { values, .. } if values.len() > MAX_TEMPLATE_VALUES => {
            return Err(format!(
                "templates are given {} values; at most {MAX_TEMPLATE_VALUES} are allowed",
                values.len()
            ));
        }
        StepAction::RunImageCommand(command) => {
            return scripts::check_environment(command.env.len(), &command.env);
        }
        StepAction::RunShellCommand(command) => return scripts::check_shell_command(command),
        StepAction::LaunchApplication(launch) => return scripts::check_launch(launch),
        StepAction::RunImagePlugin(plugin) => return scripts::check_image_plugin(plugin),
        StepAction::RunScript(spec) => return scripts::check(spec).map_err(|bad| bad.to_string()),
        StepAction::Kubeadm(spec) => return kubeadm::check(spec),
        StepAction::PublishKubeletConfiguration { config, .. } => return kubeadm::check_config(config),
        StepAction::DrainNode { node, .. }
        | StepAction::DeleteNode { node, .. }
        | StepAction::CordonNode { node, .. }
        | StepAction::UncordonNode { node, .. } => {
            return kubeadm::check_node(node);
        }
        StepAction::WaitForNodes { except, .. } => {
            return except.iter().try_for_each(|node| kubeadm::check_node(node));
        }
        StepAction::KeepEtcdSnapshot { before, .. }
        | StepAction::RestoreEtcd {
            snapshot: SnapshotName::Before(before),
            ..
        } => return kubeadm::check_version(before),
        StepAction::MarkNodes { groups, .. } => return kubeadm::check_groups(groups),
        StepAction::TrustClusterCas { authorities, .. }
        | StepAction::PublishClusterCas { authorities, .. }
        | StepAction::WithdrawClusterCa { authorities, .. } => {
            return kubeadm::check_cluster_cas(authorities);
        }
        StepAction::SetBalancer { listen, backends, .. } => return balancer::check(*listen, backends),
        StepAction::SetRegistry { domain, port, .. } => return registry::check(domain, *port),
        StepAction::WriteConfigs { files, .. } => return configs::check(files),
        StepAction::SetHostname { name, .. } => return hostname::check(name),
        StepAction::CheckScriptEffect(check) => return script_effects::check(check),
        _ => 0,
    };
    if layers > MAX_LAYERS {
        return Err(format!(
            "the image has {layers} layers; at most {MAX_LAYERS} are allowed"
        ));
    }
    Ok(())
}

/// Whether this host may do `step`: what no image brings, it has to allow.
///
/// # Errors
/// What to do so that it may.
pub(super) fn allowed(host: &Host, step: &Step) -> Result<(), String> {
    match &step.action {
        StepAction::RunShellCommand(command) if !host.allow_exec => Err(format!(
            "{} is not run: this host runs scripts of images only; set allow_exec = true in {DEFAULT_PATH} and \
             `systemctl restart gantry-agent`",
            command.title()
        )),
        _ => Ok(()),
    }
}

/// The outcome of `step` if its effect is on this host: states are looked at, only scripts are remembered.
///
/// # Errors
/// When its effect should be here and could not be put right.
pub(super) fn already_done(
    host: &Host,
    journal: &Journal,
    step: &Step,
) -> Result<Option<StepOutcome>, String> {
    let done = |holds: bool| Ok(holds.then_some(StepOutcome::Done { generation: None }));
    match &step.action {
        StepAction::Stage { layers, .. } => done(
            layers
                .iter()
                .all(|layer| host.store.is_layer_unchanged(&layer.digest)),
        ),
        StepAction::AssembleRootfs {
            cluster,
            image,
            layers,
        } => {
            let generation = host
                .rootfs
                .ensure(cluster, image, layers)
                .map_err(|error| error.to_string())?;
            Ok(generation.map(|generation| StepOutcome::Done {
                generation: Some(generation),
            }))
        }
        StepAction::WriteHostsEntries { cluster, entries } => {
            done(block(host, cluster)? == Some(hosts_file::digest(cluster, entries)))
        }
        StepAction::RemoveHostsEntries { cluster } => done(block(host, cluster)?.is_none()),
        StepAction::RemoveRootfs { cluster } => {
            let before = host.kernel_settings.is_restored() && host.pod_logs.are_removed();
            let is_as_before = before || !host.rootfs.clusters().is_empty();
            done(host.rootfs.is_removed(cluster) && host.etcd_snapshots.is_removed(cluster) && is_as_before)
        }
        StepAction::RenderTemplates { cluster, values } => {
            // Why there is no rootfs, or what is wrong with a template, is said when the step runs.
            let rendered = host.rootfs.configs(cluster).is_ok_and(|configs| {
                templates::are_rendered(configs.rootfs(), values, &configs).unwrap_or(false)
            });
            done(rendered)
        }
        StepAction::WriteConfigs { cluster, files } => {
            // As above.
            let written = host
                .rootfs
                .configs(cluster)
                .is_ok_and(|configs| configs.are_written(files).unwrap_or(false));
            done(written)
        }
        StepAction::RunScript(_)
        | StepAction::RunImageCommand(_)
        | StepAction::RunShellCommand(_)
        | StepAction::LaunchApplication(_)
        | StepAction::RunImagePlugin(_)
        | StepAction::WaitForNodes { .. }
        | StepAction::WaitForSystemPods { .. }
        | StepAction::DrainNode { .. }
        | StepAction::DeleteNode { .. }
        | StepAction::RenewCertificates { .. }
        | StepAction::KeepEtcdSnapshot { .. }
        | StepAction::CordonNode { .. }
        | StepAction::RestartKubelet { .. }
        | StepAction::PublishKubeletConfiguration { .. }
        | StepAction::ConfigureKubelet { .. }
        | StepAction::UncordonNode { .. }
        | StepAction::PublishClusterCas { .. }
        | StepAction::CheckScriptEffect(_)
        | StepAction::RestoreEtcd { .. } => Ok(journal.done(step.id()).cloned()),
        StepAction::MakeClusterCa { replaces, .. } => done(kubeadm::is_cluster_ca_made(replaces)),
        // What runs has to have started since, too.
        StepAction::TrustClusterCas { authorities, .. } => {
            let outcome = journal.done(step.id()).cloned();
            Ok(outcome.filter(|_| kubeadm::trusts_cluster_cas(authorities)))
        }
        // Files may have been put back to what they were before, and the journal not.
        StepAction::SignByClusterCa { ca, .. } => {
            let outcome = journal.done(step.id()).cloned();
            Ok(outcome.filter(|_| kubeadm::is_signed_by_cluster_ca(ca)))
        }
        StepAction::RenewKubeletCertificate { ca, .. } => {
            let outcome = journal.done(step.id()).cloned();
            Ok(outcome.filter(|_| kubeadm::has_kubelet_moved(ca)))
        }
        StepAction::WithdrawClusterCa { ca, authorities, .. } => {
            let outcome = journal.done(step.id()).cloned();
            Ok(outcome.filter(|_| kubeadm::is_cluster_ca_withdrawn(ca, authorities)))
        }
        StepAction::Kubeadm(spec) => kubeadm_done(journal, step, spec),
        StepAction::SetBalancer {
            cluster,
            listen,
            backends,
        } => done(host.balancers.is(cluster, &Settings::new(*listen, backends))),
        StepAction::RemoveBalancer { cluster } => done(host.balancers.is_removed(cluster)),
        StepAction::SetRegistry {
            cluster,
            domain,
            port,
        } => done(host.registries.is(cluster, domain, *port)),
        StepAction::SetHostname { name, .. } => done(host.hostnames.is(name)),
        StepAction::RestoreHostname { cluster } => done(host.hostnames.is_restored(cluster)),
        StepAction::RemoveRegistry { cluster } => done(host.registries.is_removed(cluster)),
        // What held once need not hold now; members, nodes and API servers are looked at by the steps themselves.
        StepAction::RemoveUnusedLayers
        | StepAction::StopApiServer { .. }
        | StepAction::StartApiServer { .. }
        | StepAction::ForgetCluster { .. }
        | StepAction::CheckQuorum { .. }
        | StepAction::CheckQuorumMeanwhile { .. }
        | StepAction::RemoveEtcdMember { .. }
        | StepAction::MarkNodes { .. } => Ok(None),
    }
}

/// A host is a member of a cluster once, by whatever configuration.
fn kubeadm_done(journal: &Journal, step: &Step, spec: &KubeadmSpec) -> Result<Option<StepOutcome>, String> {
    if let Some(outcome) = journal.done(step.id()) {
        return Ok(Some(outcome.clone()));
    }
    if matches!(spec.act, KubeadmAct::Upgrade { .. }) {
        return Ok(None);
    }
    let latest = journal.latest_kubeadm(&spec.cluster, step.id());
    let member = latest.filter(|record| record.title != KubeadmAct::Reset.title());
    if spec.act == KubeadmAct::Reset {
        return Ok(None);
    }
    if let Some(outcome) = member.as_ref().and_then(|record| record.outcome.clone()) {
        return Ok(outcome.succeeded().then_some(outcome));
    }
    if member.is_some() || journal.record(step.id()).is_some() {
        return Ok(None);
    }
    match kubeadm::traces().as_slice() {
        [] => Ok(None),
        traces => Err(format!(
            "this host is part of another Kubernetes cluster: it has {}; \
             take it out of that cluster (kubeadm reset), or leave it out of this one",
            traces.join(", ")
        )),
    }
}

/// Whether kubeadm began on this host for the step's cluster and did not come to a good end.
pub(super) fn is_begun(journal: &Journal, step: &Step) -> bool {
    let StepAction::Kubeadm(spec) = &step.action else {
        return false;
    };
    // An upgrade that was cut off goes on from where it stopped.
    if matches!(spec.act, KubeadmAct::Upgrade { .. }) {
        return false;
    }
    let latest = journal.latest_kubeadm(&spec.cluster, step.id());
    journal.record(step.id()).is_some()
        || latest.is_some_and(|record| record.title != KubeadmAct::Reset.title())
}

/// Whether something of the image was launched before under the step's name, and did not come to a good end.
pub(super) fn is_relaunched(journal: &Journal, step: &Step) -> bool {
    if !matches!(
        step.action,
        StepAction::RunImageCommand(_) | StepAction::LaunchApplication(_)
    ) {
        return false;
    }
    let (cluster, title) = (step.action.cluster(), step.action.title());
    // One that failed before it began started nothing, and says nothing of what others left.
    let has_begun = |record: &StepRecord| !matches!(record.outcome, Some(StepOutcome::Failed(_)));
    // In the order in which they began, whatever the clock said.
    let before = journal
        .records()
        .into_iter()
        .filter(|record| record.cluster.as_ref() == cluster && record.title == title)
        .rfind(has_begun);
    before.is_some_and(|record| !record.outcome.as_ref().is_some_and(StepOutcome::succeeded))
}

fn block(host: &Host, cluster: &gantry_model::ClusterName) -> Result<Option<Digest>, String> {
    host.hosts_file.digest(cluster).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use gantry_model::{ApplicationLaunch, ScriptOutcome};

    use super::*;

    #[test]
    fn a_launch_that_did_not_come_to_a_good_end_is_known_whatever_its_values_were() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(&folder.path().join("journal.jsonl")).unwrap();
        let launch = |replicas: &str| Step {
            action: StepAction::LaunchApplication(ApplicationLaunch {
                cluster: "demo".parse().unwrap(),
                application: "web".into(),
                manifest: "{}".into(),
                env: [("Replicas".to_owned(), replicas.to_owned())].into(),
                time_limit_s: 60,
            }),
            after: Vec::new(),
        };
        let (first, second) = (launch("1"), launch("2"));
        assert!(!is_relaunched(&journal, &first));
        journal.start(&first, 1).unwrap();
        assert!(is_relaunched(&journal, &second), "power was cut");
        for (outcome, again) in [
            (StepOutcome::Unknown, true),
            (StepOutcome::Script(ScriptOutcome::Exited(1)), true),
            (StepOutcome::Failed("it was not begun".into()), false),
            (StepOutcome::Script(ScriptOutcome::Exited(0)), false),
        ] {
            journal.finish(first.id(), &outcome, 2).unwrap();
            assert_eq!(is_relaunched(&journal, &second), again, "{outcome}");
        }
        // One that was not begun hides none that was cut off before it.
        let third = launch("3");
        journal.start(&first, 3).unwrap();
        journal.finish(first.id(), &StepOutcome::Unknown, 4).unwrap();
        journal.start(&second, 5).unwrap();
        journal
            .finish(second.id(), &StepOutcome::Failed("no rootfs".into()), 6)
            .unwrap();
        assert!(is_relaunched(&journal, &third));
    }
}
