//! The program `gantry-agent`: parse, run, report, exit.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use gantry_agent::cli::{Cli, Command, Enroll};
use gantry_agent::config::Config;
use gantry_agent::{balancer, enrolment, registry, run, status};
use tracing_subscriber::EnvFilter;

/// A token is a line of about a hundred characters.
const MAX_TOKEN_LEN: u64 = 4096;

fn main() -> ExitCode {
    let Cli {
        config,
        root,
        command,
    } = Cli::parse();
    let configured = |work: &dyn Fn(Config) -> anyhow::Result<()>| match Config::read(config.as_deref()) {
        Ok(config) => {
            let root = root.clone().unwrap_or_else(|| config.root.clone());
            end(work(Config { root, ..config }))
        }
        Err(error) => fail(&error.into(), gantry_model::ExitCode::Input),
    };
    match command.unwrap_or(Command::Run) {
        Command::Run => configured(&run_agent),
        Command::Enroll(enroll) => configured(&|config| take_token(&config, &enroll)),
        Command::Unenroll => configured(&|config| unenroll(&config)),
        Command::Status => configured(&|config| print_status(&config)),
        // These have their own settings and none of the agent's.
        Command::Balance(service) => end(run_balancer(&service.settings)),
        Command::Registry(service) => end(run_registry(&service.settings)),
    }
}

fn end(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => gantry_model::ExitCode::Done.into(),
        Err(error) => fail(&error, gantry_model::ExitCode::Failed),
    }
}

fn run_agent(config: Config) -> anyhow::Result<()> {
    run_service(run::run(config))
}

fn run_balancer(settings: &Path) -> anyhow::Result<()> {
    run_service(async { balancer::run(settings, run::stop_signal()?).await })
}

fn run_registry(settings: &Path) -> anyhow::Result<()> {
    run_service(async { registry::run(settings, run::stop_signal()?).await })
}

fn run_service(service: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("GANTRY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // The journal has its own time stamps.
    if journald {
        log.without_time().init();
    } else {
        log.init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("gantry-agent")
        .enable_all()
        .build()
        .context("cannot start")?;
    let ended = runtime.block_on(service);
    // A thread that waits for a disk must not keep the program.
    runtime.shutdown_background();
    ended
}

fn take_token(config: &Config, enroll: &Enroll) -> anyhow::Result<()> {
    let mut text = String::new();
    let read = if enroll.token_file.as_os_str() == "-" {
        std::io::stdin().take(MAX_TOKEN_LEN).read_to_string(&mut text)
    } else {
        std::fs::File::open(&enroll.token_file)
            .and_then(|file| file.take(MAX_TOKEN_LEN).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read the token from {}", enroll.token_file.display()))?;
    enrolment::drop_token(&config.token_file, &text)?;
    eprintln!(
        "token written to {}; now run gantry enroll for this host",
        config.token_file.display()
    );
    Ok(())
}

fn unenroll(config: &Config) -> anyhow::Result<()> {
    if !enrolment::forget_identity(config)? {
        eprintln!("this host is not enrolled: nothing to forget");
        return Ok(());
    }
    // A running agent still has it in memory.
    let restarted = std::process::Command::new("systemctl")
        .args(["try-restart", "gantry-agent.service"])
        .status()
        .is_ok_and(|status| status.success());
    let agent = if restarted {
        "the agent waits for a token"
    } else {
        "restart the agent"
    };
    eprintln!("identity forgotten; {agent}: gantry-agent enroll here, then gantry enroll for this host");
    Ok(())
}

fn print_status(config: &Config) -> anyhow::Result<()> {
    print!("{}", status::status(config)?);
    Ok(())
}

fn fail(error: &anyhow::Error, code: gantry_model::ExitCode) -> ExitCode {
    eprintln!("gantry-agent: {error:#}");
    code.into()
}
