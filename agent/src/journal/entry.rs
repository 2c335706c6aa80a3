//! One line of the journal: `{"sum":"…","entry":{…}}`. The sum is over the entry's text exactly as it stands there.

use gantry_model::{ClusterName, Digest, KubeadmAct, KubeadmSpec, Step, StepAction, StepId, StepOutcome};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a line says. Variants are append-only; to an older agent a newer one is a damaged line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Entry {
    /// A step starts.
    Started(Started),
    /// A step ended.
    Finished {
        /// The step.
        id: StepId,
        /// Seconds since the epoch.
        at: i64,
        /// How.
        outcome: StepOutcome,
    },
    /// Every finished step of a cluster is forgotten.
    Forgotten {
        /// The cluster.
        cluster: ClusterName,
    },
}

/// A step as it started. The action itself is not kept: its environment may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The step.
    pub(crate) id: StepId,
    /// What kind of change it is.
    pub(crate) kind: StepKind,
    /// Its cluster, if it has one.
    pub(crate) cluster: Option<ClusterName>,
    /// Its title.
    pub(crate) title: String,
    /// Seconds since the epoch.
    pub(crate) at: i64,
    /// For hosts entries: digest of the block as it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) block: Option<Digest>,
    /// For runs of kubeadm: the version of Kubernetes that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kubernetes: Option<String>,
}

/// What a step changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Brings layers.
    Stage,
    /// Makes a generation current.
    AssembleRootfs,
    /// Removes every generation.
    RemoveRootfs,
    /// Writes the block of `/etc/hosts`.
    WriteHostsEntries,
    /// Removes that block.
    RemoveHostsEntries,
    /// Runs a script.
    Script,
    /// Removes layers.
    RemoveLayers,
    /// Forgets a cluster.
    Forget,
    /// Renders templates.
    RenderTemplates,
    /// Begins or joins a cluster.
    Kubeadm,
    /// Makes the balancer lead somewhere.
    SetBalancer,
    /// Removes the balancer.
    RemoveBalancer,
    /// Looks at etcd's members.
    CheckQuorum,
    /// Removes one of them.
    RemoveEtcdMember,
    /// Renews certificates.
    RenewCertificates,
    /// Sets labels and taints of nodes.
    MarkNodes,
    /// Serves the rootfs's images.
    SetRegistry,
    /// Serves them no more.
    RemoveRegistry,
    /// Writes config files.
    WriteConfigs,
    /// Keeps a snapshot of etcd.
    KeepEtcdSnapshot,
    /// Keeps pods away from a node.
    CordonNode,
    /// Starts kubelet anew.
    RestartKubelet,
    /// Lets pods come to a node again.
    UncordonNode,
    /// Gives the host a name.
    SetHostname,
    /// Gives the old one back.
    RestoreHostname,
    /// Keeps the API server from running.
    StopApiServer,
    /// Makes etcd hold what a snapshot holds.
    RestoreEtcd,
    /// Lets the API server run again.
    StartApiServer,
    /// Makes another CA of the cluster.
    MakeClusterCa,
    /// Makes the host trust CAs of the cluster.
    TrustClusterCas,
    /// Tells the cluster of its CAs.
    PublishClusterCas,
    /// Lets another CA sign.
    SignByClusterCa,
    /// Gets kubelet another certificate.
    RenewKubeletCertificate,
    /// Takes a CA that does not sign back out.
    WithdrawClusterCa,
    /// Looks whether a script did what it is there for.
    CheckScriptEffect,
    /// Waits until the cluster's own pods are ready.
    WaitForSystemPods,
    /// Puts into the cluster what kubelets are told.
    PublishKubeletConfiguration,
    /// Tells kubelet.
    ConfigureKubelet,
}

impl StepKind {
    /// Whether a unit of its own does it, which outlives the agent.
    #[must_use]
    pub const fn runs_a_program(self) -> bool {
        matches!(self, Self::Script | Self::Kubeadm)
    }

    /// The kind of `step`.
    #[must_use]
    pub const fn of(step: &Step) -> Self {
        match step.action {
            StepAction::Stage { .. } => Self::Stage,
            StepAction::AssembleRootfs { .. } => Self::AssembleRootfs,
            StepAction::RemoveRootfs { .. } => Self::RemoveRootfs,
            StepAction::WriteHostsEntries { .. } => Self::WriteHostsEntries,
            StepAction::RemoveHostsEntries { .. } => Self::RemoveHostsEntries,
            StepAction::RunScript(_)
            | StepAction::RunImageCommand(_)
            | StepAction::RunShellCommand(_)
            | StepAction::LaunchApplication(_)
            | StepAction::RunImagePlugin(_)
            | StepAction::WaitForNodes { .. }
            | StepAction::DrainNode { .. }
            | StepAction::DeleteNode { .. } => Self::Script,
            // The host is a member before and after it.
            StepAction::Kubeadm(KubeadmSpec {
                act: KubeadmAct::Upgrade { .. },
                ..
            }) => Self::Script,
            StepAction::Kubeadm(_) => Self::Kubeadm,
            StepAction::SetBalancer { .. } => Self::SetBalancer,
            StepAction::RemoveBalancer { .. } => Self::RemoveBalancer,
            StepAction::RenewCertificates { .. } => Self::RenewCertificates,
            StepAction::CheckQuorum { .. } | StepAction::CheckQuorumMeanwhile { .. } => Self::CheckQuorum,
            StepAction::RemoveEtcdMember { .. } => Self::RemoveEtcdMember,
            StepAction::MarkNodes { .. } => Self::MarkNodes,
            StepAction::SetRegistry { .. } => Self::SetRegistry,
            StepAction::RemoveRegistry { .. } => Self::RemoveRegistry,
            StepAction::KeepEtcdSnapshot { .. } => Self::KeepEtcdSnapshot,
            StepAction::CordonNode { .. } => Self::CordonNode,
            StepAction::RestartKubelet { .. } => Self::RestartKubelet,
            StepAction::UncordonNode { .. } => Self::UncordonNode,
            StepAction::SetHostname { .. } => Self::SetHostname,
            StepAction::RestoreHostname { .. } => Self::RestoreHostname,
            StepAction::StopApiServer { .. } => Self::StopApiServer,
            StepAction::RestoreEtcd { .. } => Self::RestoreEtcd,
            StepAction::StartApiServer { .. } => Self::StartApiServer,
            StepAction::MakeClusterCa { .. } => Self::MakeClusterCa,
            StepAction::TrustClusterCas { .. } => Self::TrustClusterCas,
            StepAction::PublishClusterCas { .. } => Self::PublishClusterCas,
            StepAction::SignByClusterCa { .. } => Self::SignByClusterCa,
            StepAction::RenewKubeletCertificate { .. } => Self::RenewKubeletCertificate,
            StepAction::WithdrawClusterCa { .. } => Self::WithdrawClusterCa,
            StepAction::CheckScriptEffect(_) => Self::CheckScriptEffect,
            StepAction::WaitForSystemPods { .. } => Self::WaitForSystemPods,
            StepAction::PublishKubeletConfiguration { .. } => Self::PublishKubeletConfiguration,
            StepAction::ConfigureKubelet { .. } => Self::ConfigureKubelet,
            StepAction::RemoveUnusedLayers => Self::RemoveLayers,
            StepAction::ForgetCluster { .. } => Self::Forget,
            StepAction::RenderTemplates { .. } => Self::RenderTemplates,
            StepAction::WriteConfigs { .. } => Self::WriteConfigs,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    sum: &'a str,
    #[serde(borrow)]
    entry: &'a RawValue,
}

impl Entry {
    /// The line with its newline.
    pub(crate) fn to_line(&self) -> String {
        let entry = serde_json::value::to_raw_value(self).expect("an entry is plain data");
        let line = Line {
            sum: &sum(entry.get()),
            entry: &entry,
        };
        let mut text = serde_json::to_string(&line).expect("a line is plain data");
        text.push('\n');
        text
    }

    /// The entry in `line`, which has no newline.
    pub(crate) fn from_line(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
        let line: Line<'_> =
            serde_json::from_str(text).map_err(|error| format!("it is cut or damaged ({error})"))?;
        if sum(line.entry.get()) != line.sum {
            return Err("its checksum does not hold".to_owned());
        }
        serde_json::from_str(line.entry.get())
            .map_err(|error| format!("this agent does not know it ({error})"))
    }
}

/// 64 bits are plenty against torn writes and flipped bits; nobody is kept from forging a line by it.
fn sum(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..16].to_owned()
}
