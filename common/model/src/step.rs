//! This module owns [`Step`]: one change to one host, named by the hash of all its inputs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    ApplicationLaunch, ClusterName, CommandMoment, ConfigFile, Digest, DigestError, EffectCheck,
    GenerationId, ImageCommand, ImagePlugin, KubeadmSpec, LayerDescriptor, NodeGroup, ScriptOutcome,
    ScriptSpec, ShellCommand, SnapshotName,
};

/// The identity of a step: the digest of everything that decides what it does.
///
/// Two plans that want the same thing name the same step, which is what makes `apply` idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(Digest);

impl StepId {
    /// 16 hex digits: unit names, file names, what people type.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.hex()[..16].to_owned()
    }

    /// The whole digest.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl FromStr for StepId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Digest::from_hex(text).map(Self)
    }
}

/// One change to one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What to do.
    pub action: StepAction,
    /// The ids of steps on the same host whose effect this one builds on: when an earlier one changes,
    /// this one has to run again.
    pub after: Vec<StepId>,
}

impl Step {
    /// The step's id: a digest over its action and the steps it builds on.
    ///
    /// # Panics
    /// Never: a step is plain data and always has a JSON form.
    #[must_use]
    pub fn id(&self) -> StepId {
        let text = serde_json::to_vec(self).expect("a step is plain data");
        StepId(Digest::of(&text))
    }
}

/// What a step does to its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepAction {
    /// Bring layers to the host; changes nothing that runs there.
    Stage {
        /// Digest of the image manifest.
        image: Digest,
        /// The layers wanted, bottom first.
        layers: Vec<LayerDescriptor>,
    },
    /// Mount a new generation of the cluster's rootfs and make it current.
    AssembleRootfs {
        /// The cluster.
        cluster: ClusterName,
        /// Digest of the image manifest.
        image: Digest,
        /// Layers, bottom first; all must be staged.
        layers: Vec<Digest>,
    },
    /// Make these entries the cluster's marked block of `/etc/hosts`.
    WriteHostsEntries {
        /// The cluster.
        cluster: ClusterName,
        /// The block's lines.
        entries: Vec<HostsEntry>,
    },
    /// Run a script of the current generation.
    RunScript(ScriptSpec),
    /// Unmount and remove every generation of the cluster, and the links that lead to it.
    RemoveRootfs {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Remove the cluster's marked block from `/etc/hosts`.
    RemoveHostsEntries {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Remove layers that no generation on the host uses.
    RemoveUnusedLayers,
    /// Forget every finished step of the cluster, so that the next `apply` starts anew. Always the last step of a reset.
    ForgetCluster {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Render every template (`*.tmpl`) of the current generation beside itself.
    RenderTemplates {
        /// The cluster.
        cluster: ClusterName,
        /// What the templates name, sorted by name.
        values: BTreeMap<String, String>,
    },
    /// Run kubeadm of the current generation.
    Kubeadm(KubeadmSpec),
    /// Wait until every node of the cluster is ready. Done on a control plane.
    WaitForNodes {
        /// The cluster.
        cluster: ClusterName,
        /// Seconds after which a node that is not ready is a failure.
        time_limit_s: u32,
        /// Nodes that are not waited for: their hosts are off.
        #[serde(default)]
        except: Vec<String>,
    },
    /// Let a service of this host lead to the API servers.
    SetBalancer {
        /// The cluster.
        cluster: ClusterName,
        /// Where it listens, on a loopback address.
        listen: SocketAddr,
        /// The API servers.
        backends: Vec<SocketAddr>,
    },
    /// Remove that service.
    RemoveBalancer {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Keep pods away from a node of the cluster and let those that run there move. Done on a control plane.
    DrainNode {
        /// The cluster.
        cluster: ClusterName,
        /// The node's name.
        node: String,
        /// Seconds after which a pod that has not moved is a failure.
        time_limit_s: u32,
        /// The node leaves the cluster: pods that nobody would start again elsewhere end with it. Otherwise they stop the
        /// step.
        leaves: bool,
    },
    /// Let the cluster forget a node, if it knows it. Done on a control plane.
    DeleteNode {
        /// The cluster.
        cluster: ClusterName,
        /// The node's name.
        node: String,
    },
    /// Run a command of the image.
    RunImageCommand(ImageCommand),
    /// Make sure that etcd keeps its quorum without one of its members, for good. Changes nothing; done on a control plane.
    CheckQuorum {
        /// The cluster.
        cluster: ClusterName,
        /// The member's address.
        address: IpAddr,
    },
    /// Let etcd forget one of its members, if it is one and etcd keeps its quorum. Done on a control plane.
    RemoveEtcdMember {
        /// The cluster.
        cluster: ClusterName,
        /// The member's address.
        address: IpAddr,
    },
    /// Make new certificates for the control plane of this host and let it take them up.
    RenewCertificates {
        /// The cluster.
        cluster: ClusterName,
        /// When the first of the present ones ends, seconds since the epoch: the next time is another step.
        ending: i64,
    },
    /// Make these the labels and taints of these nodes, and take away from every node what was set so before and is
    /// wanted no longer. Done on a control plane.
    MarkNodes {
        /// The cluster.
        cluster: ClusterName,
        /// The nodes that are to have any; a node is in one group.
        groups: Vec<NodeGroup>,
    },
    /// Let a service of this host serve the rootfs's `registry/` to the host's own container runtimes, over TLS that
    /// they trust.
    SetRegistry {
        /// The cluster.
        cluster: ClusterName,
        /// Its host name in image references. It has to lead to the host's loopback address.
        domain: String,
        /// Its TCP port there.
        port: u16,
    },
    /// Remove that service.
    RemoveRegistry {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Make these files of the current generation what is wanted, and give back what was there before to every file
    /// that was written so and is wanted no longer.
    WriteConfigs {
        /// The cluster.
        cluster: ClusterName,
        /// Every file that is wanted.
        files: Vec<ConfigFile>,
    },
    /// Keep a snapshot of etcd on this host, a control plane, from before the cluster is taken to another version.
    KeepEtcdSnapshot {
        /// The cluster.
        cluster: ClusterName,
        /// The version it is taken to: what the snapshot is named after.
        before: String,
    },
    /// Keep new pods away from a node, unless somebody does already, and note on the node that it was done here. Done on
    /// a control plane.
    CordonNode {
        /// The cluster.
        cluster: ClusterName,
        /// The node's name.
        node: String,
    },
    /// Let kubelet of this host start anew, as it is installed by now, and wait until it runs; on a control plane, until
    /// API server and etcd serve again.
    RestartKubelet {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Wait until a node is ready in this version, and let pods come to it again if [`StepAction::CordonNode`] kept them
    /// away. Done on a control plane.
    UncordonNode {
        /// The cluster.
        cluster: ClusterName,
        /// The node's name.
        node: String,
        /// The version of its kubelet.
        version: String,
        /// Seconds after which a node that is not ready is a failure.
        time_limit_s: u32,
    },
    /// Run a command that no image brings, if this host allows it.
    RunShellCommand(ShellCommand),
    /// Give the host a name. Refused where it is a node under another one.
    SetHostname {
        /// The cluster.
        cluster: ClusterName,
        /// The name: small letters, digits, '-' and '.'.
        name: String,
    },
    /// Give the host back the name that it had before.
    RestoreHostname {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Keep the API server of this host, a control plane, from running until [`StepAction::StartApiServer`].
    StopApiServer {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Make etcd hold what a snapshot on this host holds. No API server may run meanwhile.
    RestoreEtcd {
        /// The cluster.
        cluster: ClusterName,
        /// Which snapshot.
        snapshot: SnapshotName,
    },
    /// Let the API server of this host run again, its kubelet start anew, and wait until both serve.
    StartApiServer {
        /// The cluster.
        cluster: ClusterName,
    },
    /// Launch an application of the image.
    LaunchApplication(ApplicationLaunch),
    /// Run a command of a plugin that the image brings.
    RunImagePlugin(ImagePlugin),
    /// Make another CA of the Kubernetes cluster on this host, a control plane. Nothing uses it yet.
    MakeClusterCa {
        /// The cluster.
        cluster: ClusterName,
        /// SHA-256 of the certificate (DER) of the CA that it will replace.
        replaces: Digest,
    },
    /// Make these the CAs of the Kubernetes cluster that everything on this host trusts, and let it start anew. The one that
    /// signs stays the one that signs.
    TrustClusterCas {
        /// The cluster.
        cluster: ClusterName,
        /// Their certificates, PEM, one in each.
        authorities: Vec<String>,
    },
    /// Let clients and nodes of the cluster know these as its CAs; where one is new to it, start the cluster's own pods anew
    /// that were there before. Done on a control plane, when all of them trust these.
    PublishClusterCas {
        /// The cluster.
        cluster: ClusterName,
        /// Their certificates, PEM, one in each.
        authorities: Vec<String>,
    },
    /// Let another CA sign on this host, a control plane, make every certificate of the control plane anew by it, and let
    /// them be taken up.
    SignByClusterCa {
        /// The cluster.
        cluster: ClusterName,
        /// SHA-256 of the CA's certificate (DER).
        ca: Digest,
        /// The control plane that has its key, by way of a pass; none where that is this host.
        from: Option<IpAddr>,
    },
    /// Get kubelet of this host a certificate of this CA, from the cluster, and let it start anew.
    RenewKubeletCertificate {
        /// The cluster.
        cluster: ClusterName,
        /// SHA-256 of the CA's certificate (DER).
        ca: Digest,
    },
    /// Take a CA that does not sign back out of this host: its key, where it was made here, and everybody's trust in it. Refused
    /// where it signs.
    WithdrawClusterCa {
        /// The cluster.
        cluster: ClusterName,
        /// SHA-256 of the certificate (DER) of the CA that goes.
        ca: Digest,
        /// Certificates of those that stay, PEM, one in each.
        authorities: Vec<String>,
    },
    /// Make sure that etcd serves while one of its members is stopped and comes back. Changes nothing; done on a control plane.
    CheckQuorumMeanwhile {
        /// The cluster.
        cluster: ClusterName,
        /// The member's address.
        address: IpAddr,
    },
    /// Make sure that a script of the image did what it is there for. Changes nothing.
    CheckScriptEffect(EffectCheck),
    /// Wait until every pod of the namespace `kube-system` runs and is ready, or has ended well. Done on a control plane.
    WaitForSystemPods {
        /// The cluster.
        cluster: ClusterName,
        /// Seconds after which a pod that is not ready is a failure.
        time_limit_s: u32,
    },
    /// Put into the cluster what its kubelets are told, for [`StepAction::ConfigureKubelet`] and for hosts that join. Done on a
    /// control plane.
    PublishKubeletConfiguration {
        /// The cluster.
        cluster: ClusterName,
        /// What kubeadm is given as `--config`: YAML documents. The word `{kubernetes-version}` stands for its own version.
        config: String,
    },
    /// Give kubelet of this host what the cluster has for it, and let it start anew if that is something else than before.
    ConfigureKubelet {
        /// The cluster.
        cluster: ClusterName,
    },
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsEntry {
    /// The address.
    pub address: IpAddr,
    /// The names that lead to it.
    pub names: Vec<String>,
}

impl StepAction {
    /// Whether a program does it: its output is kept and can be followed, and it outlives the agent.
    #[must_use]
    pub const fn runs_a_program(&self) -> bool {
        matches!(
            self,
            Self::RunScript(_)
                | Self::Kubeadm(_)
                | Self::RunImageCommand(_)
                | Self::RunShellCommand(_)
                | Self::LaunchApplication(_)
                | Self::RunImagePlugin(_)
                | Self::WaitForNodes { .. }
                | Self::DrainNode { .. }
                | Self::DeleteNode { .. }
        )
    }

    /// The cluster this action belongs to, if any.
    #[must_use]
    pub const fn cluster(&self) -> Option<&ClusterName> {
        match self {
            Self::Stage { .. } | Self::RemoveUnusedLayers => None,
            Self::AssembleRootfs { cluster, .. }
            | Self::WriteHostsEntries { cluster, .. }
            | Self::RemoveRootfs { cluster }
            | Self::RemoveHostsEntries { cluster }
            | Self::ForgetCluster { cluster }
            | Self::RenderTemplates { cluster, .. }
            | Self::WaitForNodes { cluster, .. }
            | Self::DrainNode { cluster, .. }
            | Self::DeleteNode { cluster, .. }
            | Self::CheckQuorum { cluster, .. }
            | Self::RemoveEtcdMember { cluster, .. }
            | Self::RenewCertificates { cluster, .. }
            | Self::MarkNodes { cluster, .. }
            | Self::SetBalancer { cluster, .. }
            | Self::RemoveBalancer { cluster }
            | Self::SetRegistry { cluster, .. }
            | Self::RemoveRegistry { cluster }
            | Self::WriteConfigs { cluster, .. }
            | Self::KeepEtcdSnapshot { cluster, .. }
            | Self::CordonNode { cluster, .. }
            | Self::RestartKubelet { cluster }
            | Self::SetHostname { cluster, .. }
            | Self::RestoreHostname { cluster }
            | Self::UncordonNode { cluster, .. }
            | Self::StopApiServer { cluster }
            | Self::RestoreEtcd { cluster, .. }
            | Self::StartApiServer { cluster }
            | Self::MakeClusterCa { cluster, .. }
            | Self::TrustClusterCas { cluster, .. }
            | Self::PublishClusterCas { cluster, .. }
            | Self::SignByClusterCa { cluster, .. }
            | Self::RenewKubeletCertificate { cluster, .. }
            | Self::WithdrawClusterCa { cluster, .. }
            | Self::CheckQuorumMeanwhile { cluster, .. }
            | Self::PublishKubeletConfiguration { cluster, .. }
            | Self::ConfigureKubelet { cluster }
            | Self::WaitForSystemPods { cluster, .. } => Some(cluster),
            Self::Kubeadm(kubeadm) => Some(&kubeadm.cluster),
            Self::RunImageCommand(command) => Some(&command.cluster),
            Self::RunShellCommand(command) => Some(&command.cluster),
            Self::LaunchApplication(launch) => Some(&launch.cluster),
            Self::RunImagePlugin(plugin) => Some(&plugin.command.cluster),
            Self::RunScript(script) => Some(&script.cluster),
            Self::CheckScriptEffect(check) => Some(&check.cluster),
        }
    }

    /// Whether agents that speak this version of the protocol may not know it: it is newer than the first of them, so they are asked
    /// before a plan begins. Kinds that are added belong here, and moments.
    #[must_use]
    pub const fn may_be_unknown(&self) -> bool {
        matches!(
            self,
            Self::StopApiServer { .. }
                | Self::RestoreEtcd { .. }
                | Self::StartApiServer { .. }
                | Self::LaunchApplication(_)
                | Self::RunImagePlugin(_)
                | Self::MakeClusterCa { .. }
                | Self::TrustClusterCas { .. }
                | Self::PublishClusterCas { .. }
                | Self::SignByClusterCa { .. }
                | Self::RenewKubeletCertificate { .. }
                | Self::WithdrawClusterCa { .. }
                | Self::CheckQuorumMeanwhile { .. }
                | Self::CheckScriptEffect(_)
                | Self::RunShellCommand(ShellCommand {
                    when: CommandMoment::BeforeUpgrade
                        | CommandMoment::AfterUpgrade
                        | CommandMoment::AfterRollback
                        | CommandMoment::BeforeScaleUp
                        | CommandMoment::AfterScaleUp,
                    ..
                })
                | Self::WaitForSystemPods { .. }
                | Self::PublishKubeletConfiguration { .. }
                | Self::ConfigureKubelet { .. }
        )
    }

    /// The moment at which it runs, where that is said in the step: agents may know its kind, and not the moment.
    #[must_use]
    pub const fn moment(&self) -> Option<CommandMoment> {
        match self {
            Self::RunShellCommand(command) => Some(command.when),
            Self::RunImagePlugin(plugin) => Some(plugin.command.when),
            _ => None,
        }
    }

    /// A few words for people: `stage`, `rootfs`, `init.sh`.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Stage { .. } => "stage".into(),
            Self::AssembleRootfs { .. } => "rootfs".into(),
            Self::WriteHostsEntries { .. } => "hosts entries".into(),
            Self::RunScript(script) => script.path.rsplit('/').next().unwrap_or(&script.path).into(),
            Self::RemoveRootfs { .. } => "remove rootfs".into(),
            Self::RemoveHostsEntries { .. } => "remove hosts entries".into(),
            Self::RemoveUnusedLayers => "remove unused layers".into(),
            Self::ForgetCluster { .. } => "forget cluster".into(),
            Self::RenderTemplates { .. } => "templates".into(),
            Self::Kubeadm(kubeadm) => kubeadm.act.title().into(),
            Self::WaitForNodes { .. } => "nodes ready".into(),
            Self::RunImageCommand(command) => format!("CMD {}", u64::from(command.index) + 1),
            Self::DrainNode { node, .. } => format!("drain {node}"),
            Self::DeleteNode { node, .. } => format!("delete node {node}"),
            Self::SetBalancer { .. } => "balancer".into(),
            Self::RemoveBalancer { .. } => "remove balancer".into(),
            Self::RenewCertificates { .. } => "renew certificates".into(),
            Self::CheckQuorum { address, .. } | Self::CheckQuorumMeanwhile { address, .. } => {
                format!("etcd quorum without {address}")
            }
            Self::RemoveEtcdMember { address, .. } => format!("remove etcd member {address}"),
            Self::MarkNodes { .. } => "labels and taints".into(),
            Self::SetRegistry { .. } => "registry".into(),
            Self::RemoveRegistry { .. } => "remove registry".into(),
            Self::WriteConfigs { .. } => "configs".into(),
            Self::KeepEtcdSnapshot { .. } => "etcd snapshot".into(),
            Self::CordonNode { node, .. } => format!("cordon {node}"),
            Self::RestartKubelet { .. } => "restart kubelet".into(),
            Self::UncordonNode { node, .. } => format!("uncordon {node}"),
            Self::RunShellCommand(command) => command.title(),
            Self::SetHostname { .. } => "hostname".into(),
            Self::RestoreHostname { .. } => "restore hostname".into(),
            Self::StopApiServer { .. } => "stop API server".into(),
            Self::RestoreEtcd { snapshot, .. } => format!("restore etcd {snapshot}"),
            Self::StartApiServer { .. } => "start API server".into(),
            Self::LaunchApplication(launch) => format!("application {}", launch.application),
            Self::RunImagePlugin(plugin) => plugin.command.title(),
            Self::MakeClusterCa { .. } => "new cluster CA".into(),
            Self::TrustClusterCas { authorities, .. } if authorities.len() > 1 => "trust both CAs".into(),
            Self::TrustClusterCas { .. } => "drop old CA".into(),
            Self::PublishClusterCas { authorities, .. } if authorities.len() > 1 => "publish both CAs".into(),
            Self::PublishClusterCas { .. } => "publish CA".into(),
            Self::SignByClusterCa { .. } => "new CA signs".into(),
            Self::RenewKubeletCertificate { .. } => "kubelet certificate".into(),
            Self::WithdrawClusterCa { .. } => "withdraw new CA".into(),
            Self::CheckScriptEffect(check) => format!("check {}", check.script_name()),
            Self::WaitForSystemPods { .. } => "system pods ready".into(),
            Self::PublishKubeletConfiguration { .. } => "publish kubelet configuration".into(),
            Self::ConfigureKubelet { .. } => "kubelet configuration".into(),
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Done; for `AssembleRootfs` see `generation`.
    Done {
        /// The generation that became current, where one did.
        generation: Option<GenerationId>,
    },
    /// A script ended, well or badly.
    Script(ScriptOutcome),
    /// It failed for this reason; the host is as it was before the step.
    Failed(String),
    /// It could not be observed to end. Never counts as done.
    Unknown,
    /// It failed because what it builds on is not what the image says, for this reason; the host is as it was before the step.
    /// Told while it happens: what is kept, journals, has it as failed, as agents of before know it.
    Damaged(String),
}

impl StepOutcome {
    /// Whether the step's effect is on the host.
    #[must_use]
    pub const fn succeeded(&self) -> bool {
        match self {
            Self::Done { .. } => true,
            Self::Script(outcome) => outcome.succeeded(),
            Self::Failed(_) | Self::Damaged(_) | Self::Unknown => false,
        }
    }
}

impl fmt::Display for StepOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done {
                generation: Some(generation),
            } => write!(f, "done, generation {generation}"),
            Self::Done { generation: None } => f.write_str("done"),
            Self::Script(outcome) => outcome.fmt(f),
            Self::Failed(reason) | Self::Damaged(reason) => f.write_str(reason),
            Self::Unknown => f.write_str("outcome unknown: it was not seen to end"),
        }
    }
}

/// What an agent's journal says about one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step.
    pub id: StepId,
    /// Its cluster, if it has one.
    pub cluster: Option<ClusterName>,
    /// Its title.
    pub title: String,
    /// Seconds since the epoch, by the host's clock.
    pub started_at: i64,
    /// When it ended, by the same clock; none while it runs.
    pub ended_at: Option<i64>,
    /// How it ended; none while it runs.
    pub outcome: Option<StepOutcome>,
    /// For runs of kubeadm: the version of Kubernetes that it brings.
    pub kubernetes: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_id_changes_with_every_input() {
        let cluster: ClusterName = "demo".parse().unwrap();
        let step = |cluster: &ClusterName, after: Vec<StepId>| Step {
            action: StepAction::RemoveRootfs {
                cluster: cluster.clone(),
            },
            after,
        };
        let first = step(&cluster, vec![]).id();
        assert_eq!(first, step(&cluster, vec![]).id());
        assert_ne!(first, step(&cluster, vec![first]).id());
        assert_ne!(first, step(&"other".parse().unwrap(), vec![]).id());
    }
}
