//! This module owns [`Plan`]: which step runs on which host, in which order, and why. Plain data, so that it can
//! be printed, compared, saved and carried to another machine.
//!
//! ```text
//! Clusterfile + image + inventories ── planner ──▶ Plan ── render ──▶ text
//!                 └── preflight ──▶ findings        └── check ──▶ execute
//! ```

pub mod check;
pub mod cluster_ca;
mod commands;
mod configs;
mod environment;
mod hostname;
mod image;
mod image_file;
mod kubeadm;
mod leave;
pub mod planner;
pub mod preflight;
mod progress;
mod registry;
pub mod render;
pub mod renew;
pub mod reset;
pub mod restore;
mod scale_up;
mod script_effects;
mod scripts;
mod shell_commands;
mod skip;
mod templates;
mod way;

use std::net::IpAddr;
use std::sync::Arc;

use gantry_model::{ClusterName, Digest, ImageEvidence, ImageReference, Step, StepAction, StepId};
use serde::{Deserialize, Serialize};

pub use commands::ImageCommands;
pub(crate) use environment::environment as environment_of_scripts;
pub use image::{PlanImage, PlanLayer};
pub use image_file::ImageFile;
pub(crate) use kubeadm::{CONFIG_PATHS as KUBEADM_CONFIG_PATHS, METADATA, PROGRAM as KUBEADM, is_node_name};
pub use kubeadm::{ImageKubernetes, ImageSwap, KubeadmFile, KubernetesNeeds, by_hand, unreached};
pub use leave::Leaving;
pub use progress::refresh;
pub(crate) use scripts::{Call as ScriptOfHost, of_first_master as scripts_of_first_master};

/// The version of the plan's JSON form. A number is never reused.
pub const PLAN_VERSION: u32 = 1;

/// Title of the wave that brings layers to the hosts.
pub const STAGE: &str = "stage";

/// What will be done to the hosts of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`PLAN_VERSION`] of the program that made it.
    pub version: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// The cluster.
    pub cluster: ClusterName,
    /// The image the cluster shall run; none when it is taken down.
    pub image: Option<PlannedImage>,
    /// What Kubernetes asks of hosts before they become members, where the plan makes them some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesNeeds>,
    /// The hosts, in the order of the Clusterfile.
    pub hosts: Vec<PlannedHost>,
    /// What is done: a wave starts when every host has ended the one before.
    pub waves: Vec<Wave>,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Make the hosts what the Clusterfile says.
    Apply,
    /// Remove the cluster from the hosts.
    Reset,
    /// Give the control planes new certificates.
    Renew,
    /// Make etcd hold what a snapshot holds.
    Restore,
    /// Replace the CA of the Kubernetes cluster.
    ReplaceCa,
}

/// The image of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedImage {
    /// Its name in the Clusterfile.
    pub reference: ImageReference,
    /// Digest of the manifest that name led to: what will run, whatever the name leads to later.
    pub digest: Digest,
    /// What hosts are shown so that they accept it. A saved plan has none: it is taken from the store when it is applied.
    #[serde(skip)]
    pub evidence: Option<Arc<ImageEvidence>>,
}

/// A host of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedHost {
    /// Its address.
    pub address: IpAddr,
    /// The latest rootfs step of this cluster on the host when the plan was made. Another one found later means
    /// that somebody else changed the host in between.
    pub seen: Option<StepId>,
    /// TCP ports that have to be free before the cluster comes to the host.
    pub ports: Vec<u16>,
    /// It is to keep a copy of the cluster's data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub etcd: bool,
    /// The name of its node; empty when its agent did not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The version of Kubernetes that it had when it answered last, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Whether it is to be there when the plan is done.
    #[serde(default, skip_serializing_if = "Place::is_default")]
    pub place: Place,
}

/// Whether a host is to be in the cluster when a plan is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// It is in the Clusterfile.
    #[default]
    Stays,
    /// It is no longer in the Clusterfile: the plan takes it out of the cluster and gives it back as it was.
    Leaves,
    /// It is no longer in the Clusterfile and does not answer: the cluster forgets it. It is given back when it is back.
    GivenUp,
    /// It is in the Clusterfile and does not answer: the plan leaves it as it is.
    Skipped,
}

impl Place {
    /// Whether it stays in the cluster.
    #[must_use]
    pub fn is_to_stay(&self) -> bool {
        matches!(self, Self::Stays | Self::Skipped)
    }

    /// Whether the plan has nothing to do with the host's agent.
    #[must_use]
    pub fn is_not_asked(&self) -> bool {
        matches!(self, Self::GivenUp | Self::Skipped)
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Steps that may run side by side on different hosts. On one host they run in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// What it does, in a word.
    pub title: String,
    /// Whether hosts go on with the next wave after another host failed in this one. Only taking down does.
    pub keep_going: bool,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// Where.
    pub host: IpAddr,
    /// The step's id, which follows from `step`.
    pub id: StepId,
    /// The step's title.
    pub title: String,
    /// What running it means for the host.
    pub mark: Mark,
    /// Why it runs or need not run.
    pub reason: String,
    /// What to do.
    pub step: Step,
}

/// What running a step means for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Something comes to the host.
    Add,
    /// Something on the host becomes something else.
    Change,
    /// Something goes.
    Remove,
    /// It is done already.
    Done,
}

impl Mark {
    /// The sign in the margin.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
            Self::Done => '=',
        }
    }
}

impl PlannedStep {
    pub(crate) fn new(host: IpAddr, step: Step, mark: Mark, reason: impl Into<String>) -> Self {
        Self {
            host,
            id: step.id(),
            title: step.action.title(),
            mark,
            reason: reason.into(),
            step,
        }
    }

    /// Whether it has to run.
    #[must_use]
    pub fn is_to_do(&self) -> bool {
        self.mark != Mark::Done
    }
}

impl Plan {
    /// Every step of every wave, in order.
    pub fn steps(&self) -> impl Iterator<Item = &PlannedStep> {
        self.waves.iter().flat_map(|wave| &wave.steps)
    }

    /// The plan without what comes after staging: nothing that runs on the hosts changes.
    #[must_use]
    pub fn staging(mut self) -> Self {
        self.waves.retain(|wave| wave.title == STAGE);
        self
    }

    /// The plan as it is remembered when it was executed: without the hosts that it took out of the cluster, and their steps. Those
    /// that were given up are kept, because they have to be given back, unless they are `lost` for good. The others have the
    /// version of Kubernetes that it brought them.
    #[must_use]
    pub fn without_left(mut self, lost: &[IpAddr]) -> Self {
        let is_to_be_given_back =
            |host: &PlannedHost| host.place == Place::GivenUp && !lost.contains(&host.address);
        self.hosts
            .retain(|host| host.place.is_to_stay() || is_to_be_given_back(host));
        let waves = &self.waves;
        for host in &mut self.hosts {
            let steps = waves.iter().flat_map(|wave| &wave.steps);
            let mut brought = steps.filter_map(|step| match &step.step.action {
                StepAction::Kubeadm(spec) if step.host == host.address => Some(&spec.kubernetes),
                _ => None,
            });
            if let Some(version) = brought.rfind(|version| !version.is_empty()) {
                host.kubernetes = Some(version.clone());
            }
        }
        let stays = |host: IpAddr| self.hosts.iter().any(|one| one.address == host);
        for wave in &mut self.waves {
            wave.steps.retain(|step| stays(step.host));
        }
        self
    }

    /// How many steps have to run.
    #[must_use]
    pub fn to_do(&self) -> usize {
        self.steps().filter(|step| step.is_to_do()).count()
    }
}
