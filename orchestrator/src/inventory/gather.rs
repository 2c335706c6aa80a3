//! Asks all agents at once. A host that does not answer is a fact, not an error.

use std::net::IpAddr;

use futures_util::StreamExt as _;
use gantry_model::{ClusterName, ExitCode};
use gantry_system::clock::now_ms;

use super::{ClusterInventory, HostReport, HostState};
use crate::session::{AgentSession as _, SessionError, Sessions};

/// Agents asked at a time.
const MAX_AT_A_TIME: usize = 64;

/// What every agent of `hosts` says about its host and about `cluster`.
pub async fn gather<S: Sessions>(
    sessions: &S,
    hosts: &[IpAddr],
    cluster: Option<&ClusterName>,
) -> ClusterInventory {
    let ask = |host: IpAddr| async move {
        let state = match report(sessions, host, cluster).await {
            Ok(report) => HostState::Reached(Box::new(report)),
            Err(error) if error.exit_code() == ExitCode::Verification => {
                HostState::Refused(error.without_address(host))
            }
            Err(error) => HostState::Unreachable(error.without_address(host)),
        };
        (host, state)
    };
    let hosts = futures_util::stream::iter(hosts.iter().copied())
        .map(ask)
        .buffer_unordered(MAX_AT_A_TIME);
    ClusterInventory {
        hosts: hosts.collect().await,
    }
}

async fn report<S: Sessions>(
    sessions: &S,
    host: IpAddr,
    cluster: Option<&ClusterName>,
) -> Result<HostReport, SessionError> {
    let session = sessions.session(host).await?;
    let asked_at = now_ms();
    let inventory = session.inventory().await?;
    // Making the inventory takes the agent some time; its clock was read when that ended.
    let skew_ms = match (inventory.clock_ms - asked_at, inventory.clock_ms - now_ms()) {
        (since_asked, until_here) if since_asked >= 0 && until_here <= 0 => 0,
        (since_asked, until_here) => {
            if since_asked < 0 {
                since_asked
            } else {
                until_here
            }
        }
    };
    let mut report = HostReport {
        inventory,
        drift: Vec::new(),
        skew_ms,
        path: session.path(),
    };
    if let Some(cluster) = cluster.filter(|cluster| report.has(cluster)) {
        report.drift = session.drift(cluster).await?;
    }
    Ok(report)
}
