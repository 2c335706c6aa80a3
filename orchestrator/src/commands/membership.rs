//! Who is in the cluster, who is to be, and who answers.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use gantry_model::{ClusterName, ExitCode};
use tokio::time::timeout;

use super::prepare::Wanted;
use crate::clusterfile::Role;
use crate::exit::failure_hint;
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::plan::preflight::{Check, Finding, quorum};
use crate::plan::{Leaving, Place, Plan, PlannedHost};
use crate::session::{AgentSession as _, SessionError, Sessions};
use crate::state::State;

/// How long hosts that were given up before are waited for: they are expected to be silent.
const GIVEN_UP_LIMIT: Duration = Duration::from_secs(2);

/// Asks the agents of all hosts that are in the cluster or are to be. With `force`, hosts that are to leave and do not
/// answer are given up; those whose certificates were revoked are not even asked.
///
/// # Errors
/// When the state cannot be read.
pub(super) async fn ask<S: Sessions>(
    wanted: &Wanted,
    applied: &[PlannedHost],
    state: &State,
    sessions: &S,
    force: bool,
) -> anyhow::Result<(ClusterInventory, Vec<Leaving>)> {
    let (stays, lost) = (wanted.hosts(), state.agents().revoked()?);
    let leaving = applied.iter().filter(|host| !stays.contains(&host.address));
    let mut leaving: Vec<Leaving> = leaving
        .map(|host| Leaving {
            host: host.clone(),
            given_up: lost.contains(&host.address),
        })
        .collect();
    let (mut due, mut silent) = (stays, Vec::new());
    for one in leaving.iter().filter(|one| !one.given_up) {
        match one.host.place {
            Place::GivenUp => silent.push(one.host.address),
            Place::Stays | Place::Leaves | Place::Skipped => due.push(one.host.address),
        }
    }
    let mut inventory = gather_with_given_up(sessions, &due, &silent, wanted.cluster()).await;
    for one in &mut leaving {
        let address = one.host.address;
        if inventory.report(address).is_none() && (force || one.host.place == Place::GivenUp) {
            inventory.hosts.remove(&address);
            one.given_up = true;
        }
    }
    Ok((inventory, leaving))
}

/// What the agents of `hosts` say, and those of hosts that were given up before (`given_up`), unless they are silent still.
pub(super) async fn gather_with_given_up<S: Sessions>(
    sessions: &S,
    hosts: &[IpAddr],
    given_up: &[IpAddr],
    cluster: &ClusterName,
) -> ClusterInventory {
    let cluster = Some(cluster);
    // Each for itself: one that is back is not lost because of one that is not.
    let back = given_up.iter().map(|host| {
        timeout(
            GIVEN_UP_LIMIT,
            gather(sessions, std::slice::from_ref(host), cluster),
        )
    });
    let (mut inventory, back) = tokio::join!(gather(sessions, hosts, cluster), join_all(back));
    let back = back.into_iter().flatten();
    inventory.hosts.extend(back.flat_map(|back| back.hosts));
    inventory
}

/// Refuses what no plan brings about: that a host which was given up stays after all, and that a member changes its role.
///
/// # Errors
/// When the file wants one of them.
pub(super) fn refuse_changes(
    wanted: &Wanted,
    applied: &[PlannedHost],
    inventory: &ClusterInventory,
) -> anyhow::Result<()> {
    let Wanted::Clusterfile(_, clusterfile) = wanted else {
        return Ok(());
    };
    for host in &clusterfile.hosts {
        let Some(before) = applied.iter().find(|one| one.address == host.address) else {
            continue;
        };
        let report = inventory.report(host.address);
        if !report.is_some_and(|report| report.has(&clusterfile.name)) {
            continue;
        }
        let (address, name) = (host.address, &clusterfile.name);
        if before.place == Place::GivenUp {
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "{address} was given up: cluster {name} has forgotten it, but it still has what it was brought"
                ),
                "apply once without it, which cleans it; then it can join again",
            ));
        }
        if before.etcd != (host.role == Role::Master) {
            let (is, role) = if before.etcd {
                ("master", "node")
            } else {
                ("node", "master")
            };
            return Err(failure_hint(
                ExitCode::Input,
                format!(
                    "{address} is a {is} of cluster {name}; it cannot become a {role} while it is a member"
                ),
                "apply once without it, then it can join in another role",
            ));
        }
    }
    Ok(())
}

/// Which control planes of the plan cannot leave, or be taken out for a while, because etcd would lose its quorum.
pub(super) async fn quorum<S: Sessions>(plan: &Plan, sessions: &S) -> Vec<Finding> {
    let Some((asked, absences)) = quorum::absences(plan) else {
        return Vec::new();
    };
    let health = async { sessions.session(asked).await?.cluster_health(&plan.cluster).await };
    let silent = |message: String| {
        let finding = |host: IpAddr| Finding {
            check: Check::Quorum,
            host,
            message: format!("whether etcd can do without it is not known: {asked}: {message}"),
        };
        absences.iter().map(|absence| finding(absence.host)).collect()
    };
    let health: Result<_, SessionError> = health.await;
    match health {
        Ok(health) if health.etcd.0.is_empty() && !health.problems.is_empty() => {
            silent(health.problems.join("; "))
        }
        Ok(health) => quorum::check(&health.etcd, &absences),
        Err(error) => silent(error.without_address(asked)),
    }
}
