//! `gantry enroll`: hosts and this orchestrator come to trust each other, by a one-time token.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::ValueHint;
use futures_util::StreamExt as _;
use gantry_model::{Digest, ExitCode};
use gantry_system::clock::now_s;
use gantry_transport::{Authority, DialOptions, EnrolledAgent, EnrolmentError, Token, enrol};

use super::agents::resolve;
use super::connect::{self, ConnectArgs};
use crate::context::Context;
use crate::execute::retry::Backoff;
use crate::exit::{OrExit as _, failure};
use crate::session::{Dialer, SessionError, Sessions as _};
use crate::state::{AgentRecord, State, TokenFile};

/// Hosts enrolled at the same time.
const MAX_AT_A_TIME: usize = 32;

/// How long a host may take until it listens for its enrolment: an agent looks for its token every second.
const LISTENS_WITHIN: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_millis(500),
    whole: Duration::from_secs(3),
};

/// Why a host that is up may not answer here: the port of an agent that waits for its token is closed.
const SILENT_WITHOUT_TOKEN: &str = "  an agent without a token that can be used does not listen; `journalctl -u gantry-agent` there says what it waits for";

/// How long a host that was just enrolled may take until it serves; it is a moment.
const SERVES_WITHIN: Backoff = Backoff {
    first: Duration::from_millis(50),
    longest: Duration::from_secs(1),
    whole: Duration::from_secs(15),
};

/// Flags of `gantry enroll`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Hosts, by address or by a name this machine resolves
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,

    /// Token that the hosts have, when it was not created here [prefer --token-file: processes are visible]
    #[arg(
        long,
        value_name = "TOKEN",
        env = "GANTRY_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<String>,

    /// File with the token that the hosts have, when it was not created here
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Enrols the hosts, side by side; one that fails does not stop the others.
///
/// # Errors
/// When nothing could be begun, or hosts were not enrolled.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let state = State::new(context.root());
    let tokens = state.tokens();
    let token = token(&args)?;
    if token.is_none() && tokens.all()?.is_empty() {
        return Err(crate::exit::failure_hint(
            ExitCode::Input,
            "there is no token to enrol hosts with",
            "`gantry token create` makes one; put it into /etc/gantry/token on the hosts",
        ));
    }
    let authority = state.authority_or_create()?;
    state.identity_from(&authority)?;
    if let Some(token) = token {
        let uses = u32::try_from(args.hosts.len()).unwrap_or(u32::MAX);
        tokens.add(token.record(uses))?;
    }
    let port = args.connect.agent_port;
    let mut addresses = Vec::new();
    for host in &args.hosts {
        addresses.push(SocketAddr::new(resolve(host, port)?, port));
    }
    let ca = authority.name().or_exit(ExitCode::Failed)?;
    let trusted = authority.trust().or_exit(ExitCode::Failed)?.to_pem();
    let trusted = Digest::of(trusted.as_bytes());
    let results = connect::block_on(
        async { Ok(enrol_all(&addresses, &tokens, &authority, &args.connect).await) },
        "hosts that were not named as enrolled can be enrolled again",
    )?;
    let (mut failed, mut silent) = (0, 0);
    let mut enrolled = Vec::new();
    for (address, result) in results {
        match result {
            Ok(agent) => {
                enrolled.push(address.ip());
                let skew = agent.clock_skew_ms / 1000;
                let clock = if skew == 0 {
                    String::new()
                } else {
                    format!("; its clock is off by {skew} s")
                };
                anstream::eprintln!(
                    "{}: enrolled, key {}{clock}",
                    address.ip(),
                    &agent.fingerprint[..16.min(agent.fingerprint.len())]
                );
                remember(&state, address, &agent, &ca, trusted)?;
            }
            Err(error) => {
                failed += 1;
                anstream::eprintln!("{}: not enrolled: {error}", address.ip());
                if error.transient {
                    silent += 1;
                    anstream::eprintln!("{SILENT_WITHOUT_TOKEN}");
                }
            }
        }
    }
    wait_until_they_serve(&connect::dialer(context, &args.connect)?, &enrolled)?;
    match failed {
        0 => Ok(ExitCode::Done),
        _ if failed < addresses.len() => Err(failure(
            ExitCode::SomeHostsFailed,
            format!("{failed} of {} hosts were not enrolled", addresses.len()),
        )),
        _ if failed == silent => Err(failure(
            ExitCode::Unreachable,
            "no host was enrolled: none answers",
        )),
        _ => Err(failure(ExitCode::Failed, "no host was enrolled")),
    }
}

type Enrolled = (SocketAddr, Result<EnrolledAgent, EnrolmentError>);

async fn enrol_all(
    addresses: &[SocketAddr],
    tokens: &TokenFile,
    authority: &Authority,
    connect: &ConnectArgs,
) -> Vec<Enrolled> {
    let settings = connect.settings();
    let options = DialOptions {
        udp: settings.udp,
        timeout: settings.timeout,
        ..DialOptions::default()
    };
    let options = &options;
    let one = |address: SocketAddr| async move {
        // The name in the certificate is the address by which Clusterfiles name the host.
        let name = address.ip().to_string();
        let mut delays = LISTENS_WITHIN.delays();
        loop {
            match enrol(address, &name, tokens, authority, options).await {
                Err(error) if error.transient => match delays.next() {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return (address, Err(error)),
                },
                result => return (address, result),
            }
        }
    };
    futures_util::stream::iter(addresses.iter().copied())
        .map(one)
        .buffered(MAX_AT_A_TIME)
        .collect()
        .await
}

/// An agent goes from enrolment to serving in a moment. The next command must not fall into it, and a session proves
/// that both sides took the certificates for good.
fn wait_until_they_serve(dialer: &Dialer, hosts: &[IpAddr]) -> anyhow::Result<()> {
    let one = |host: IpAddr| async move { (host, serves(dialer, host).await) };
    let answers: Vec<_> = connect::block_on(
        async {
            let answers = futures_util::stream::iter(hosts.iter().copied())
                .map(one)
                .buffered(MAX_AT_A_TIME);
            let answers = answers.collect().await;
            dialer.close().await;
            Ok(answers)
        },
        "the hosts are enrolled",
    )?;
    for (host, answer) in answers {
        if let Err(error) = answer {
            anstream::eprintln!("{host}: enrolled, but it does not serve yet: {error}");
        }
    }
    Ok(())
}

async fn serves(dialer: &Dialer, host: IpAddr) -> Result<(), SessionError> {
    let mut delays = SERVES_WITHIN.delays();
    loop {
        match dialer.session(host).await {
            Ok(_) => return Ok(()),
            Err(error) if error.heals() => match delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}

fn remember(
    state: &State,
    address: SocketAddr,
    agent: &EnrolledAgent,
    ca: &str,
    trusted: Digest,
) -> anyhow::Result<()> {
    let record = AgentRecord {
        name: agent.name.clone(),
        enrolled_at: now_s(),
        serial: agent.serial.clone(),
        not_after: seconds(agent.not_after),
        fingerprint: agent.fingerprint.clone(),
        revoked: false,
        ca: ca.to_owned(),
        trust: Some(trusted),
    };
    state
        .agents()
        .update(|agents| agents.insert(address.ip(), record))?;
    Ok(())
}

pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn token(args: &Args) -> anyhow::Result<Option<Token>> {
    let text = match (&args.token, &args.token_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))
            .or_exit(ExitCode::Input)?,
        (None, None) => return Ok(None),
    };
    text.trim()
        .parse::<Token>()
        .map(Some)
        .map_err(|error| failure(ExitCode::Input, error))
}
