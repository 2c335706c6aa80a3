//! Tells the agents whom to trust: the CA, or two while one replaces the other, and what they took back. An agent that knows
//! is not told again.

use std::net::IpAddr;

use futures_util::StreamExt as _;
use gantry_model::{Digest, ExitCode};

use crate::commands::connect::{self, ConnectArgs};
use crate::context::Context;
use crate::exit::OrExit as _;
use crate::session::{AgentSession as _, SessionError, Sessions};
use crate::state::State;

/// Hosts that are spoken to at the same time.
pub const MAX_AT_A_TIME: usize = 32;

/// Tells every enrolled agent that does not know yet, and says who could not be reached.
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

/// Tells every enrolled agent that does not know yet whom to trust, or those among `only`; gives those that could not be
/// told.
///
/// # Errors
/// When the state cannot be read or written.
pub async fn deliver<S: Sessions>(
    state: &State,
    sessions: &S,
    only: Option<&[IpAddr]>,
) -> anyhow::Result<Vec<(IpAddr, SessionError)>> {
    let Ok(authority) = state.authority() else {
        return Ok(Vec::new());
    };
    let authorities = authority.trust().or_exit(ExitCode::Failed)?.to_pem();
    let digest = Digest::of(authorities.as_bytes());
    let agents = state.agents().all()?;
    let lacking = agents
        .into_iter()
        .filter(|(_, agent)| !agent.revoked && agent.trust != Some(digest))
        .filter(|(host, _)| only.is_none_or(|only| only.contains(host)));
    let tell = |host: IpAddr| {
        let authorities = authorities.clone();
        async move {
            let result = match sessions.session(host).await {
                Ok(session) => session.trust(authorities).await,
                Err(error) => Err(error),
            };
            (host, result)
        }
    };
    let told = futures_util::stream::iter(lacking.map(|(host, _)| tell(host)));
    let results: Vec<_> = told.buffer_unordered(MAX_AT_A_TIME).collect().await;
    let reached: Vec<IpAddr> = results
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(host, _)| *host)
        .collect();
    if !reached.is_empty() {
        state.agents().update(|agents| {
            for (_, agent) in agents.iter_mut().filter(|(host, _)| reached.contains(host)) {
                agent.trust = Some(digest);
            }
        })?;
    }
    let mut missed: Vec<_> = results
        .into_iter()
        .filter_map(|(host, result)| Some((host, result.err()?)))
        .collect();
    missed.sort_by_key(|(host, _)| *host);
    Ok(missed)
}
