//! Brings the CA's revocation list to the agents. An agent that has it is not sent it again.

use std::net::IpAddr;

use gantry_model::{Digest, ExitCode};

use crate::commands::connect::{self, ConnectArgs};
use crate::context::Context;
use crate::exit::OrExit as _;
use crate::session::{AgentSession as _, Dialer, SessionError, Sessions as _};
use crate::state::State;

/// Hands the list to every enrolled agent that lacks it, and says who could not be reached.
///
/// # Errors
/// When the state cannot be read or written.
pub fn deliver_to_all(context: &Context, args: &ConnectArgs) -> anyhow::Result<ExitCode> {
    let state = State::new(context.root());
    let dialer = connect::dialer(context, args)?;
    let missed = connect::block_on(
        async {
            let missed = deliver(&state, &dialer, None).await?;
            dialer.close().await;
            Ok(missed)
        },
        "agents that were not reached get the list with the next `gantry apply`",
    )?;
    for (host, error) in &missed {
        anstream::eprintln!("{host} does not know yet: {error}");
    }
    if missed.is_empty() {
        return Ok(ExitCode::Done);
    }
    anstream::eprintln!("They get the list with the next `gantry apply` or `gantry agents revoke`.");
    Ok(ExitCode::SomeHostsFailed)
}

/// Hands the list to every enrolled agent that lacks it, or to those among `only`; gives those that could not be
/// reached.
///
/// # Errors
/// When the state cannot be read or written.
pub async fn deliver(
    state: &State,
    dialer: &Dialer,
    only: Option<&[IpAddr]>,
) -> anyhow::Result<Vec<(IpAddr, SessionError)>> {
    let Ok(authority) = state.authority() else {
        return Ok(Vec::new());
    };
    let crl = authority.crl().or_exit(ExitCode::Failed)?;
    let digest = Digest::of(&crl);
    let agents = state.agents().all()?;
    let lacking = agents
        .iter()
        .filter(|(_, agent)| !agent.revoked && agent.revocations != Some(digest))
        .filter(|(host, _)| only.is_none_or(|only| only.contains(host)));
    let hand = |host: IpAddr, crl: Vec<u8>| async move {
        let result = match dialer.session(host).await {
            Ok(session) => session.revocations(crl).await,
            Err(error) => Err(error),
        };
        (host, result)
    };
    let handed = lacking.map(|(host, _)| hand(*host, crl.clone()));
    let results = futures_util::future::join_all(handed).await;
    let reached: Vec<IpAddr> = results
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(host, _)| *host)
        .collect();
    if !reached.is_empty() {
        state.agents().update(|agents| {
            for (_, agent) in agents.iter_mut().filter(|(host, _)| reached.contains(host)) {
                agent.revocations = Some(digest);
            }
        })?;
    }
    Ok(results
        .into_iter()
        .filter_map(|(host, result)| Some((host, result.err()?)))
        .collect())
}
