//! [`Config`] → a running agent, until it is told to stop. Every way of failing to start lives here.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use gantry_store::Store;
use gantry_system::files::FileLock;
use gantry_transport::{Identity, Listener, ListenerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::enrolment;
use crate::executor::Executor;
use crate::host::Host;
use crate::identity::IdentityKeeper;
use crate::journal::Journal;
use crate::server::Server;
use crate::systemd;

/// Runs the agent until SIGTERM or SIGINT. Running scripts go on without it.
///
/// # Errors
/// When it cannot start: another agent uses the same root, a file is damaged, the port is taken.
pub async fn run(config: Config) -> anyhow::Result<()> {
    run_until(config, stop_signal()?).await
}

/// Runs the agent until `stop` is cancelled.
///
/// # Errors
/// As [`run`].
pub async fn run_until(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let _lock = lock(&config)?;
    let host = host(&config)?;
    let executor = start_executor(&config, host.clone())?;
    tokio::select! {
        served = serve(&config, host, executor.clone(), &stop) => served,
        () = systemd::watchdog(executor) => Ok(()),
    }
}

/// Serves sessions, after enrolment if that has to come first.
async fn serve(
    config: &Config,
    host: Host,
    executor: Executor,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let folder = config.identity();
    let identity = if Identity::exists(&folder) {
        let identity = Identity::load(&folder)?;
        // Left behind when an agent ended between being enrolled and tidying up.
        enrolment::remove_token(&config.token_file);
        identity
    } else {
        match enrolment::enrol(config, stop).await? {
            Some(identity) => identity,
            None => {
                systemd::stopping();
                executor.drain().await;
                return Ok(());
            }
        }
    };
    let name = identity.name().to_owned();
    let address = config.listen_address();
    let listener = Listener::bind(address, identity, ListenerOptions::default())
        .await
        .with_context(|| format!("cannot listen on {address}; is another agent running?"))?;
    let listener = Arc::new(listener);
    tracing::info!(name, "serving on {}", listener.local_addr());
    systemd::ready(&format!("serving as {name} on {}", listener.local_addr()));
    let identity = Arc::new(IdentityKeeper::new(&folder, Arc::clone(&listener)));
    // An agent may have ended between no longer trusting somebody and dropping his keys.
    if let Err(error) = identity.keep_image_keys(&host.image_keys) {
        tracing::error!("{error}");
    }
    let server = Server {
        host,
        executor,
        identity,
    };
    server.serve(listener, stop.clone()).await;
    Ok(())
}

/// Makes the agent's folders and makes sure that no other agent uses them.
fn lock(config: &Config) -> anyhow::Result<FileLock> {
    let folder = config.agent();
    // Keys, tokens and what scripts wrote: nobody else's business.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    match FileLock::try_exclusive(&path).with_context(|| format!("cannot lock {}", path.display()))? {
        Some(lock) => Ok(lock),
        None => bail!(
            "another gantry-agent uses {}; stop it, or choose another root",
            config.root.display()
        ),
    }
}

fn start_executor(config: &Config, host: Host) -> anyhow::Result<Executor> {
    let path = config.journal();
    let (journal, damage) = Journal::open(&path)?;
    for damage in damage {
        tracing::error!(
            "{}: line {}: {}; what it said is not believed",
            path.display(),
            damage.line,
            damage.reason
        );
    }
    for (cluster, error) in host.rootfs.mount_all_current() {
        tracing::error!(%cluster, "the rootfs is not mounted: {error}");
    }
    Ok(Executor::start(host, journal))
}

fn host(config: &Config) -> anyhow::Result<Host> {
    let store = Store::open(&config.root)
        .with_context(|| format!("cannot open the store below {}", config.root.display()))?;
    Ok(Host::new(config, store))
}

/// Cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        systemd::stopping();
        told.cancel();
    });
    Ok(stop)
}
