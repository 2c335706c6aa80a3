//! New certificates for agents, before theirs end: the agent asks with its own key, the CA here signs.

use std::net::IpAddr;

use gantry_model::CertificateKeeper;
use gantry_system::clock::now_s;
use gantry_transport::Authority;

use crate::commands::enroll::seconds;
use crate::inventory::{ClusterInventory, HostReport};
use crate::plan::renew::RENEW_BEFORE_END_S;
use crate::session::{AgentSession as _, SessionError, Sessions};
use crate::state::State;

/// What became of the agents whose turn it was.
#[derive(Debug, Default)]
pub struct Renewals {
    /// Those that have a new certificate, and when it ends, in seconds since the epoch.
    pub renewed: Vec<(IpAddr, i64)>,
    /// Those that keep the old one, and why.
    pub missed: Vec<(IpAddr, String)>,
}

/// Gives agents of `inventory` new certificates: all of them, or with `only_due` those whose certificates end soon. Without
/// a CA here that is somebody else's business.
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
    let due_before = now_s() + RENEW_BEFORE_END_S;
    let is_due = |report: &HostReport| {
        let mut own = report.inventory.certificates.iter();
        own.any(|record| record.keeper == CertificateKeeper::Gantry && record.not_after < due_before)
    };
    let due = inventory
        .reached()
        .filter(|(_, report)| !only_due || is_due(report));
    // Those that were enrolled from elsewhere have another CA.
    let due = due.filter_map(|(host, _)| Some((host, agents.get(&host).filter(|agent| !agent.revoked)?)));
    let ask = |host: IpAddr, name: String| {
        let authority = &authority;
        async move { (host, one(authority, sessions, host, &name).await) }
    };
    let asked = futures_util::future::join_all(due.map(|(host, agent)| ask(host, agent.name.clone()))).await;
    let mut renewals = Renewals::default();
    for (host, result) in asked {
        match result {
            Ok((serial, not_after)) => {
                state.agents().update(|agents| {
                    if let Some(agent) = agents.get_mut(&host) {
                        agent.serial = serial;
                        agent.not_after = not_after;
                    }
                })?;
                renewals.renewed.push((host, not_after));
            }
            Err(reason) => renewals.missed.push((host, reason)),
        }
    }
    Ok(renewals)
}

/// Serial number and end of the new certificate.
async fn one<S: Sessions>(
    authority: &Authority,
    sessions: &S,
    host: IpAddr,
    name: &str,
) -> Result<(String, i64), String> {
    let lost = |error: SessionError| error.without_address(host);
    let session = sessions.session(host).await.map_err(lost)?;
    let request = session.signing_request().await.map_err(lost)?;
    let issued = authority
        .sign_agent(&request, name)
        .map_err(|error| error.to_string())?;
    session.take_certificate(issued.der).await.map_err(lost)?;
    Ok((issued.serial, seconds(issued.not_after)))
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
            "{host}: its agent's certificate was about to end; the new one ends {}.",
            crate::output::date(not_after)
        );
    }
    Ok(())
}
