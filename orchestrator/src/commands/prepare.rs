//! From a file to a plan that fits the hosts: what `plan` and `apply` have in common.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use gantry_model::ExitCode;
use gantry_store::{Image, Store, StoreError};

use super::{image_trust, known_steps, membership};
use crate::clusterfile::{Clusterfile, Source};
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::inventory::ClusterInventory;
use crate::plan::planner::{self, Back};
use crate::plan::preflight::{self, Check};
use crate::plan::{self, Leaving, Plan, PlanImage, PlannedHost};
use crate::session::Sessions;
use crate::state::State;

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
        let source = Source::read(path, "-f")?;
        let clusterfile = source.clusterfile()?;
        source.refuse_masked()?;
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
            Self::Plan(plan) => {
                let asked = plan.hosts.iter().filter(|host| !host.place.is_not_asked());
                asked.map(|host| host.address).collect()
            }
        }
    }

    /// The hosts of the cluster when it was applied from here last; none when it was not, or for a saved plan.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn applied(&self, state: &State) -> anyhow::Result<Vec<PlannedHost>> {
        match self {
            Self::Clusterfile(..) => state.cluster(self.cluster()).applied_hosts(),
            Self::Plan(_) => Ok(Vec::new()),
        }
    }

    /// Its image, from the store.
    ///
    /// # Errors
    /// When the store does not have it, or a Clusterfile names what is not in it.
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
        let files = match self {
            Self::Clusterfile(_, clusterfile) => clusterfile
                .configs
                .iter()
                .map(|config| config.path.clone())
                .collect(),
            // What is in its files, a saved plan says.
            Self::Plan(_) => BTreeSet::new(),
        };
        let stored_image = match (self, image) {
            (Self::Clusterfile(source, _), Err(error @ StoreError::NoSuchImage { .. })) => {
                let help = bring_in(&reference);
                return Err(source.refuse_image(&error.to_string(), &help));
            }
            (_, image) => stored(image)?,
        };
        if let Self::Clusterfile(..) = self {
            image_trust::warn_of_damage(store, &reference).map_err(super::store_error)?;
        }
        let evidence = store.accepted(&reference, &stored_image).map_err(refused)?;
        let mut image = read_image(store, &stored_image, &reference, &files)?;
        image.evidence = Some(Arc::new(evidence));
        if let Self::Clusterfile(source, clusterfile) = self {
            source.check_against(clusterfile, &image.offer())?;
            if image.kubernetes.is_none() {
                source.tell_of_kubernetes(clusterfile, &reference);
            }
            source.tell(image.with_plugins(clusterfile))?;
        }
        Ok(image)
    }

    /// The plan for what the agents said.
    ///
    /// # Errors
    /// When a saved plan does not fit the hosts any more, or the image cannot set up a host.
    pub fn plan(
        &self,
        image: &PlanImage,
        inventory: &ClusterInventory,
        leaving: &[Leaving],
        planning: &PlanningArgs,
    ) -> anyhow::Result<Plan> {
        let max_unavailable = planning.max_unavailable;
        let mut plan = match (self, &planning.back) {
            (Self::Clusterfile(_, clusterfile), None) => {
                planner::plan(clusterfile, image, inventory, leaving, max_unavailable)?
            }
            (Self::Clusterfile(_, clusterfile), Some(back)) => {
                planner::roll_back(clusterfile, image, inventory, leaving, max_unavailable, back)?
            }
            (Self::Plan(plan), _) => (**plan).clone(),
        };
        plan::check::check(&plan)?;
        if matches!(self, Self::Plan(_)) {
            plan::check::check_current(&plan, inventory)?;
            plan::refresh(&mut plan, inventory);
            plan::cluster_ca::refuse_meanwhile(&plan, inventory)?;
        }
        Ok(plan)
    }
}

/// How a plan is made.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanningArgs {
    /// Give hosts up that are to leave and do not answer: the cluster forgets them
    #[arg(long)]
    pub force: bool,

    /// Leave this preflight check out; may be given several times
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    pub skip_preflight: Vec<Check>,

    /// Go on without workers that do not answer; the next apply makes up for it. Exits with 4 when there are some
    #[arg(long)]
    pub skip_unreachable: bool,

    /// How many workers are upgraded, or run their scripts again, at the same time; control planes are one after the other
    #[arg(long, value_name = "N", default_value = "1")]
    pub max_unavailable: NonZeroUsize,

    /// The cluster goes back.
    #[arg(skip)]
    pub back: Option<Back>,
}

/// A plan and what speaks against executing it.
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// What preflight found.
    pub findings: Vec<preflight::Finding>,
    /// What the agents said.
    pub inventory: ClusterInventory,
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
    planning: &PlanningArgs,
) -> anyhow::Result<Prepared> {
    let applied = wanted.applied(state)?;
    let (inventory, leaving) = membership::ask(wanted, &applied, state, sessions, planning.force).await?;
    membership::refuse_changes(wanted, &applied, &inventory)?;
    let mut plan = wanted.plan(image, &inventory, &leaving, planning)?;
    // A saved plan was made with or without a host, and stays so.
    if planning.skip_unreachable && matches!(wanted, Wanted::Clusterfile(..)) {
        plan = plan.skipping(&inventory, &applied);
        warn_of_left_behind(&plan, image);
    }
    if let Some(planned) = &mut plan.image {
        planned.evidence.clone_from(&image.evidence);
    }
    if !applied.is_empty() {
        warn_of_unreached(&state.cluster(&plan.cluster).plan()?, &plan);
    }
    let mut findings = preflight::preflight(&plan, image, &inventory, &planning.skip_preflight);
    if let Some(evidence) = &image.evidence {
        let key = state.image_key_or_create()?.verification_key().to_pem();
        findings.extend(image_trust::refusals(&plan, evidence, &key, sessions).await);
    }
    findings.extend(known_steps::unknown(&plan, sessions).await);
    findings.extend(membership::quorum(&plan, sessions).await);
    for warning in preflight::warnings(&plan, &inventory, &planning.skip_preflight) {
        anstream::eprintln!("warning: {}: {}", warning.host, warning.message);
    }
    Ok(Prepared {
        plan,
        findings,
        inventory,
    })
}

/// What `plan` says otherwise than the plan before, and that is not taken to any host.
fn warn_of_unreached(applied: &Plan, plan: &Plan) {
    for kind in plan::unreached(applied, plan) {
        anstream::eprintln!(
            "warning: {} has changed since the last apply, and does not reach hosts that are in cluster {} already\n  \
             hint: {}",
            kind.name(),
            plan.cluster,
            plan::by_hand(kind)
        );
    }
}

/// Workers that do not answer may not be upgraded any more when they are back.
fn warn_of_left_behind(plan: &Plan, image: &PlanImage) {
    let Some(kubernetes) = &image.kubernetes else {
        return;
    };
    let version = &kubernetes.version;
    for (host, last) in plan.left_behind(version) {
        anstream::eprintln!(
            "warning: {host} does not answer and ran Kubernetes {last} when it did: no upgrade takes it from there to {version}; \
             when it is back, `gantry delete -n {host}`, then `gantry join -n {host}`"
        );
    }
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
        let (of, are) = (
            if all == 1 { "host" } else { "hosts" },
            if hosts.len() == 1 { "is" } else { "are" },
        );
        let message = format!(
            "{} of {all} {of} {are} not ready; nothing was changed",
            hosts.len()
        );
        let signed = self.findings.iter().any(|one| one.check == Check::Signature);
        if let Some(image) = self.plan.image.as_ref().filter(|_| signed) {
            let hint = format!(
                "`gantry sign {0}` allows it on hosts that ask for this orchestrator's key; where a host's policy names another key: \
                 `gantry sign --key FILE {0}`, or name the key of whoever signed it in the policy",
                image.reference
            );
            return Err(failure_hint(code, message, hint));
        }
        let hint = match code {
            ExitCode::Unreachable if self.all_leave(&hosts) => {
                "--force gives it up: the cluster forgets it, and it is cleaned when it is back; for one that never will be, \
                 `gantry agents revoke HOST` does the same for good"
            }
            ExitCode::Unreachable => {
                "is gantry-agent running there, and enrolled? `systemctl status gantry-agent` on the host says; \
                 a plan made with --skip-unreachable goes on without workers that do not answer"
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
                .any(|one| one.address == *host && one.place.is_to_stay())
        };
        !hosts.iter().any(stays)
    }
}

/// What planning needs of an image, and what is at the paths `files` of it.
///
/// # Errors
/// When a layer's table of contents cannot be read.
pub fn read_image(
    store: &Store,
    image: &Image,
    reference: &gantry_model::ImageReference,
    files: &BTreeSet<String>,
) -> anyhow::Result<PlanImage> {
    PlanImage::read(store, image, reference, files).map_err(|error| {
        let code = error.exit_code();
        failure(code, format!("image {reference} cannot be used: {error}"))
    })
}

/// The error of an image that this machine's policy refuses.
fn refused(error: StoreError) -> anyhow::Error {
    let code = error.exit_code();
    let hint = "nothing was changed; `gantry verify --key FILE IMAGE` shows by which keys it is signed";
    let failed: Result<(), _> = Err(error).or_exit_hint(code, hint);
    failed.expect_err("it is an error")
}

/// What to do about an image that is not in the store.
pub(super) fn bring_in(image: &impl Display) -> String {
    format!("`gantry pull {image}` or `gantry load FILE` brings it in")
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
