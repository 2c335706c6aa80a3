//! The command line of `gantry-agent`: structures only.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  gantry-agent                                   run with /etc/gantry/agent.toml, as the service does
  gantry-agent run --root /srv/gantry            keep everything on another disk
  gantry token create | gantry-agent enroll      take a one-time token from standard input
  gantry-agent enroll --token-file /media/token  take it from a file
  gantry-agent status                            what this host is and has done";

/// The Gantry agent: receives layers, assembles the rootfs, runs its scripts.
#[derive(Debug, Parser)]
#[command(name = "gantry-agent", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Configuration file [default: /etc/gantry/agent.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where layers, rootfs, identity and journal lie, instead of what the configuration says
    #[arg(long, global = true, value_name = "FOLDER")]
    pub root: Option<PathBuf>,
    /// What to do; without it: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM
    Run,
    /// Hand a one-time token to the agent of this host
    Enroll(Enroll),
    /// Forget the identity of this host: its agent then waits for a token again
    ///
    /// For a host whose certificate has ended, or which is to belong to another installation. Layers, generations and
    /// the journal stay. Afterwards: gantry-agent enroll here, gantry enroll HOST at the orchestrator.
    Unenroll,
    /// Print identity, generations and latest steps of this host
    Status,
    /// Lead to the API servers of a cluster, as the service gantry-balancer-CLUSTER does
    #[command(hide = true)]
    Balance(Service),
    /// Serve the container images of a cluster's rootfs to this host, as the service gantry-registry-CLUSTER does
    #[command(hide = true)]
    Registry(Service),
}

/// `gantry-agent balance` and `gantry-agent registry`.
#[derive(Debug, Args)]
pub struct Service {
    /// File that says where to listen and what to lead to or serve
    pub settings: PathBuf,
}

/// `gantry-agent enroll`.
#[derive(Debug, Args)]
pub struct Enroll {
    /// File that holds the token; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub token_file: PathBuf,
}

/// The command line, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        assert!(Cli::parse_from(["gantry-agent"]).command.is_none());
        let cli = Cli::parse_from(["gantry-agent", "run", "--root", "/srv"]);
        assert_eq!(cli.root, Some("/srv".into()));
    }
}
