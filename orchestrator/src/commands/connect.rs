//! What commands that talk to agents have in common: how to dial, and how to end.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use gantry_model::ExitCode;
use gantry_store::Store;
use gantry_transport::UdpMode;
use tokio::sync::oneshot;

use super::image_trust;
use crate::context::Context;
use crate::exit::{self, Failure, failure_hint};
use crate::session::{DialSettings, Dialer};
use crate::state::State;

/// How long work that was interrupted may take to clear away what it has begun.
const CLEARED_WITHIN: Duration = Duration::from_secs(1);

/// How agents are reached.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection options")]
pub struct ConnectArgs {
    /// Port that agents listen on
    #[arg(long, value_name = "PORT", default_value_t = gantry_protocol::DEFAULT_PORT, env = "GANTRY_AGENT_PORT", hide_env = true)]
    pub agent_port: u16,

    /// Whether to use QUIC over UDP, or TLS over TCP where UDP is blocked
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub udp: Udp,

    /// How long one attempt to reach an agent may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub connect_timeout: Duration,
}

/// Which ways to agents may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Udp {
    /// QUIC, and TCP where UDP stays silent
    Auto,
    /// QUIC only
    Only,
    /// TCP only
    Never,
}

impl ConnectArgs {
    /// These flags as settings.
    #[must_use]
    pub const fn settings(&self) -> DialSettings {
        let udp = match self.udp {
            Udp::Auto => UdpMode::Auto,
            Udp::Only => UdpMode::Only,
            Udp::Never => UdpMode::Never,
        };
        DialSettings {
            port: self.agent_port,
            udp,
            timeout: self.connect_timeout,
        }
    }
}

/// The image store of this machine.
///
/// # Errors
/// When it cannot be opened.
pub fn store(context: &Context) -> anyhow::Result<Store> {
    let store = Store::open(context.root()).map_err(super::store_error)?;
    let guard = image_trust::guard(context.signature_policy().to_owned(), State::new(context.root()));
    Ok(store.guarded(guard))
}

/// A dialer with the identity that the flags ask for.
///
/// # Errors
/// When there is no identity, or the state cannot be read.
pub fn dialer(context: &Context, args: &ConnectArgs) -> anyhow::Result<Dialer> {
    let state = State::new(context.root());
    let identity = state.identity(context.identity())?;
    let agents = state.agents().all()?;
    let names: BTreeMap<IpAddr, String> = agents
        .into_iter()
        .map(|(address, agent)| (address, agent.name))
        .collect();
    Ok(Dialer::new(identity, args.settings(), names, store(context)?))
}

/// The exit code, and the next thing to do, when those among `hosts` were to answer and none did; none when one did. `said` is what
/// came of each host that was asked.
pub(super) fn none_answered(
    hosts: &[IpAddr],
    said: &[(IpAddr, ExitCode)],
) -> Option<(ExitCode, &'static str)> {
    let codes: Vec<ExitCode> = said
        .iter()
        .filter(|(host, _)| hosts.contains(host))
        .map(|(_, code)| *code)
        .collect();
    let is_away = |code: &ExitCode| matches!(code, ExitCode::Unreachable | ExitCode::Verification);
    if codes.is_empty() || !codes.iter().all(is_away) {
        return None;
    }
    Some(if codes.contains(&ExitCode::Verification) {
        (
            ExitCode::Verification,
            "`gantry agents` lists the hosts that were enrolled from here",
        )
    } else {
        (
            ExitCode::Unreachable,
            "is gantry-agent running there, and enrolled? `systemctl status gantry-agent` on the host says",
        )
    })
}

/// Runs `work` to its end, or to the first Ctrl-C; then `detached` says how to go on.
///
/// # Errors
/// What `work` ends with; exit code 130 when it was interrupted.
pub fn block_on<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    detached: impl Into<String>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the program's threads")?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            _ = interrupted() => Err(failure_hint(ExitCode::Interrupted, "interrupted", detached)),
            result = work => result,
        }
    });
    // A blocking read that is still on its way must not hold the program up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// Runs `work`, which is more than waiting, beside; to its end, or to the first Ctrl-C. Then what it does is given up, programs that it
/// started end, and `detached` says how to go on.
///
/// # Errors
/// What `work` ends with; exit code 130 when it was interrupted.
pub fn interruptible<T: Send>(
    work: impl FnOnce() -> anyhow::Result<T> + Send,
    detached: &str,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    std::thread::scope(|scope| {
        let given_up = || failure_hint(ExitCode::Interrupted, "interrupted", detached);
        let (working, mut ended) = oneshot::channel::<()>();
        let was_interrupted = runtime.block_on(async {
            let mut interrupted = std::pin::pin!(interrupted());
            // Signals are heard from here on.
            if interrupted.as_mut().now_or_never().is_some() {
                return None;
            }
            let worker = scope.spawn(move || {
                let _working = working;
                work()
            });
            tokio::select! {
                biased;
                () = &mut interrupted => {}
                _ = &mut ended => {
                    // What it started may have ended by the same Ctrl-C, a moment before it is heard of here.
                    tokio::task::yield_now().await;
                    return Some((worker, interrupted.now_or_never().is_some()));
                }
            }
            // What is half done is cleared away, as far as that is a matter of moments.
            if tokio::time::timeout(CLEARED_WITHIN, ended).await.is_err() {
                // Programs that it started end with this one.
                std::process::exit(exit::report(Err(given_up())) as i32);
            }
            Some((worker, true))
        });
        let Some((worker, was_interrupted)) = was_interrupted else {
            return Err(given_up());
        };
        let result = worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match result {
            Err(error) if was_interrupted && code(&error) != Some(ExitCode::Interrupted) => Err(given_up()),
            result => result,
        }
    })
}

/// The exit code that `error` knows.
fn code(error: &anyhow::Error) -> Option<ExitCode> {
    let mut causes = error.chain();
    causes.find_map(|cause| Some(cause.downcast_ref::<Failure>()?.code()))
}

/// Ctrl-C, or the request to end that a service manager sends.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
        _ = terminate.recv() => {}
    }
}
