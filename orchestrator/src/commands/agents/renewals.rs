//! New certificates for agents, before theirs end or their CA goes: the agent asks with its own key, the CA here signs.

use std::net::IpAddr;

use gantry_model::{CertificateKeeper, ExitCode};
use gantry_system::clock::now_s;
use gantry_transport::{Authority, Rotation};

use crate::commands::enroll::seconds;
use crate::exit::OrExit as _;
use crate::inventory::{ClusterInventory, HostReport};
use crate::plan::renew::RENEW_BEFORE_END_S;
use crate::session::{AgentSession, SessionError, Sessions};
use crate::state::State;

/// What became of the agents whose turn it was.
#[derive(Debug, Default)]
pub struct Renewals {
    /// Those that have a new certificate, and when it ends, in seconds since the epoch.
    pub renewed: Vec<(IpAddr, i64)>,
    /// Those that keep the old one, and why.
    pub missed: Vec<(IpAddr, String)>,
}

/// Gives agents of `inventory` new certificates: all of them, or with `only_due` those whose certificates end soon or are of a
/// CA that is being replaced. Without a CA here that is somebody else's business.
///
/// # Errors
/// When the state cannot be read or written.
pub async fn renew<S: Sessions>(
    state: &State,
    sessions: &S,
    inventory: &ClusterInventory,
    only_due: bool,
) -> anyhow::Result<Renewals> {
    let Ok(authority) = state.authority() else {
        return Ok(Renewals::default());
    };
    let agents = state.agents().all()?;
    let ca = authority.name().or_exit(ExitCode::Failed)?;
    let rotating = authority.rotation() != Rotation::Settled;
    let due_before = now_s() + RENEW_BEFORE_END_S;
    let is_due = |report: &HostReport| {
        let mut own = report.inventory.certificates.iter();
        own.any(|record| record.keeper == CertificateKeeper::Gantry && record.not_after < due_before)
    };
    // Those that were enrolled from elsewhere have another CA.
    let ours = inventory.reached().filter_map(|(host, report)| {
        let agent = agents.get(&host).filter(|agent| !agent.revoked)?;
        Some((host, report, agent))
    });
    let due = ours.filter(|(_, report, agent)| !only_due || is_due(report) || rotating && agent.ca != ca);
    let ask = |host: IpAddr, name: String| {
        let authority = &authority;
        async move { (host, one(authority, sessions, host, &name).await) }
    };
    let asked =
        futures_util::future::join_all(due.map(|(host, _, agent)| ask(host, agent.name.clone()))).await;
    let mut renewals = Renewals::default();
    for (host, result) in asked {
        match result {
            Ok(Renewed {
                serial, not_after, ..
            }) => {
                state.agents().update(|agents| {
                    if let Some(agent) = agents.get_mut(&host) {
                        agent.serial = serial;
                        agent.not_after = not_after;
                        agent.ca.clone_from(&ca);
                    }
                })?;
                renewals.renewed.push((host, not_after));
            }
            Err(reason) => renewals.missed.push((host, reason)),
        }
    }
    Ok(renewals)
}

/// An agent's new certificate.
#[derive(Debug)]
pub struct Renewed {
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// When it ends, seconds since the epoch.
    pub not_after: i64,
    /// SHA-256 of the agent's public key, lower-case hex.
    pub fingerprint: String,
}

async fn one<S: Sessions>(
    authority: &Authority,
    sessions: &S,
    host: IpAddr,
    name: &str,
) -> Result<Renewed, String> {
    let session = sessions.session(host).await;
    let session = session.map_err(|error| error.without_address(host))?;
    renew_one(authority, &session, host, name).await
}

/// Gives one agent a new certificate.
///
/// # Errors
/// When it cannot be asked, or does not take it.
pub async fn renew_one<A: AgentSession>(
    authority: &Authority,
    session: &A,
    host: IpAddr,
    name: &str,
) -> Result<Renewed, String> {
    let lost = |error: SessionError| error.without_address(host);
    let request = session.signing_request().await.map_err(lost)?;
    let issued = authority
        .sign_agent(&request, name)
        .map_err(|error| error.to_string())?;
    session.take_certificate(issued.der).await.map_err(lost)?;
    Ok(Renewed {
        serial: issued.serial,
        not_after: seconds(issued.not_after),
        fingerprint: issued.fingerprint,
    })
}

/// Renews what is due and says so; agents that could not be asked are met again, and named, when their steps run.
///
/// # Errors
/// When the state cannot be read or written.
pub async fn renew_due<S: Sessions>(
    state: &State,
    sessions: &S,
    inventory: &ClusterInventory,
) -> anyhow::Result<()> {
    for (host, not_after) in renew(state, sessions, inventory, true).await?.renewed {
        anstream::eprintln!(
            "{host}: its agent has a new certificate until {}.",
            crate::output::date(not_after)
        );
    }
    Ok(())
}
