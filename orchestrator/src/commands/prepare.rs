//! From a file to a plan that fits the hosts: what `plan` and `apply` have in common.

use std::net::IpAddr;
use std::path::Path;

use gantry_model::ExitCode;
use gantry_store::{Image, Store, StoreError};

use crate::clusterfile::{Clusterfile, Source};
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::plan::preflight::{self, Check};
use crate::plan::{self, Plan, PlanImage};
use crate::session::Sessions;
use crate::state::{State, known_clusters};

/// What the file named with `-f` is.
pub enum Wanted {
    /// A Clusterfile.
    Clusterfile(Source, Box<Clusterfile>),
    /// A plan that was saved before.
    Plan(Box<Plan>),
}

impl Wanted {
    /// Reads `path`: a Clusterfile, or a plan, which is JSON.
    ///
    /// # Errors
    /// When it cannot be read or has mistakes.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        if path.extension().is_some_and(|extension| extension == "json") {
            return Ok(Self::Plan(Box::new(read_plan(path)?)));
        }
        let source = Source::read(path)?;
        let clusterfile = source.clusterfile()?;
        Ok(Self::Clusterfile(source, Box::new(clusterfile)))
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &gantry_model::ClusterName {
        match self {
            Self::Clusterfile(_, clusterfile) => &clusterfile.name,
            Self::Plan(plan) => &plan.cluster,
        }
    }

    /// Addresses of its hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<IpAddr> {
        match self {
            Self::Clusterfile(_, clusterfile) => clusterfile.hosts.iter().map(|host| host.address).collect(),
            Self::Plan(plan) => plan.hosts.iter().map(|host| host.address).collect(),
        }
    }

    /// Addresses of hosts that were in the cluster when it was applied from here last, and are not in the file. Hosts whose
    /// certificates were revoked since are given up: nobody waits for a host that burnt down.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn leaving(&self, state: &State) -> anyhow::Result<Vec<IpAddr>> {
        let (Self::Clusterfile(_, clusterfile), true) =
            (self, known_clusters(state)?.contains(self.cluster()))
        else {
            return Ok(Vec::new());
        };
        let applied = state.cluster(&clusterfile.name).plan()?;
        let stays = self.hosts();
        let agents = state.agents().all()?;
        let given_up = |host: &IpAddr| agents.get(host).is_some_and(|agent| agent.revoked);
        let before = applied.hosts.into_iter().map(|host| host.address);
        Ok(before
            .filter(|host| !stays.contains(host) && !given_up(host))
            .collect())
    }

    /// Its image, from the store.
    ///
    /// # Errors
    /// When the store does not have it.
    pub fn image(&self, store: &Store) -> anyhow::Result<PlanImage> {
        let (image, reference) = match self {
            Self::Clusterfile(_, clusterfile) => (store.image(&clusterfile.image), clusterfile.image.clone()),
            Self::Plan(plan) => {
                let Some(planned) = &plan.image else {
                    return Err(failure(
                        ExitCode::Input,
                        "this plan takes a cluster down; use `gantry reset`",
                    ));
                };
                (store.image_by_digest(&planned.digest), planned.reference.clone())
            }
        };
        read_image(store, &stored(image)?, &reference)
    }

    /// The plan for what the agents said.
    ///
    /// # Errors
    /// When a saved plan does not fit the hosts any more, or the image cannot set up a host.
    pub fn plan(
        &self,
        image: &PlanImage,
        inventory: &ClusterInventory,
        leaving: &[IpAddr],
    ) -> anyhow::Result<Plan> {
        let mut plan = match self {
            Self::Clusterfile(_, clusterfile) => plan::planner::plan(clusterfile, image, inventory, leaving)?,
            Self::Plan(plan) => (**plan).clone(),
        };
        plan::check::check(&plan)?;
        if matches!(self, Self::Plan(_)) {
            plan::check::check_current(&plan, inventory)?;
            plan::refresh(&mut plan, inventory);
        }
        Ok(plan)
    }
}

/// A plan and what speaks against executing it.
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// What preflight found.
    pub findings: Vec<preflight::Finding>,
}

/// Asks all agents, plans, and checks everything that can be checked before anything changes.
///
/// # Errors
/// See [`Wanted::plan`].
pub async fn prepare<S: Sessions>(
    wanted: &Wanted,
    image: &PlanImage,
    state: &State,
    sessions: &S,
    skip: &[Check],
) -> anyhow::Result<Prepared> {
    let leaving = wanted.leaving(state)?;
    let hosts = [wanted.hosts(), leaving.clone()].concat();
    let inventory = gather(sessions, &hosts, Some(wanted.cluster())).await;
    let plan = wanted.plan(image, &inventory, &leaving)?;
    let findings = preflight::preflight(&plan, image, &inventory, skip);
    Ok(Prepared { plan, findings })
}

impl Prepared {
    /// Says what preflight found, if it found something.
    ///
    /// # Errors
    /// When it did: exit code 3, or 7 when hosts cannot be reached.
    pub fn refuse_on_findings(&self) -> anyhow::Result<()> {
        if self.findings.is_empty() {
            return Ok(());
        }
        anstream::eprintln!(
            "Preflight, before anything was changed:\n{}",
            preflight::render(&self.findings)
        );
        let mut hosts: Vec<_> = self.findings.iter().map(|finding| finding.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let code = preflight::exit_code(&self.findings);
        let planned = |host: &&IpAddr| self.plan.hosts.iter().any(|one| one.address == **host);
        let all = self.plan.hosts.len() + hosts.iter().filter(|host| !planned(host)).count();
        let message = format!(
            "{} of {all} hosts are not ready; nothing was changed",
            hosts.len()
        );
        let hint = match code {
            ExitCode::Unreachable if self.all_leave(&hosts) => {
                "a host that will not come back is given up with `gantry agents revoke HOST` and `kubectl delete node`"
            }
            ExitCode::Unreachable => {
                "is gantry-agent running there, and enrolled? `systemctl status gantry-agent` on the host says"
            }
            ExitCode::Verification => "`gantry agents` lists the hosts that were enrolled from here",
            _ => "put it right, or leave a check out with --skip-preflight=NAME",
        };
        Err(failure_hint(code, message, hint))
    }

    /// Whether none of `hosts` is to stay: those that leave are in a plan only when they answer.
    fn all_leave(&self, hosts: &[IpAddr]) -> bool {
        let stays = |host: &IpAddr| {
            self.plan
                .hosts
                .iter()
                .any(|one| one.address == *host && !one.leaves)
        };
        !hosts.iter().any(stays)
    }
}

/// What planning needs of an image.
///
/// # Errors
/// When a layer's table of contents cannot be read.
pub fn read_image(
    store: &Store,
    image: &Image,
    reference: &gantry_model::ImageReference,
) -> anyhow::Result<PlanImage> {
    PlanImage::read(store, image, reference).map_err(|error| {
        let code = error.exit_code();
        failure(code, format!("image {reference} cannot be used: {error}"))
    })
}

/// The exit code of a store's error.
fn stored(image: Result<Image, StoreError>) -> anyhow::Result<Image> {
    match image {
        Ok(image) => Ok(image),
        Err(error) => {
            let code = error.exit_code();
            Err(error).or_exit(code)
        }
    }
}

fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let shown = path.display();
    let text = std::fs::read(path)
        .map_err(|error| anyhow::Error::new(error).context(format!("cannot read {shown}")))
        .or_exit(ExitCode::Input)?;
    serde_json::from_slice(&text)
        .map_err(|error| anyhow::Error::new(error).context(format!("{shown} is not a plan")))
        .or_exit_hint(
            ExitCode::Input,
            "`gantry plan -o FILE` makes one; a Clusterfile has no name ending in .json",
        )
}
