//! The command line: flags and words, nothing that acts. Each command's own flags lie beside the command.

mod of_others;

use std::ffi::OsString;
use std::path::PathBuf;

use anstream::ColorChoice;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint};

use crate::commands;

/// Most columns of help: lines of text that are longer are broken there, whatever follows.
const MAX_WIDTH: usize = 100;

/// Turns bare Linux hosts into a Kubernetes cluster from one file, with no internet.
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    styles = styles(),
    max_term_width = MAX_WIDTH,
    disable_help_subcommand = true,
    after_help = EXIT_CODES,
)]
pub struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Reads the command line. Ends the program where clap does: after help, and after mistakes.
///
/// # Errors
/// When it asks for something of other programs that is not done here.
pub fn parse() -> anyhow::Result<Cli> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let command = of_others::known_to(Cli::command());
    // Before mistakes: what is refused may be the cause of them.
    let lenient = command.clone().ignore_errors(true).try_get_matches_from(&words);
    let given = lenient
        .map(|matches| of_others::Given::of(&matches))
        .unwrap_or_default();
    given.refuse()?;
    let matches = command.get_matches_from(&words);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.global.color {
        Color::Auto => {}
        Color::Always => ColorChoice::Always.write_global(),
        Color::Never => ColorChoice::Never.write_global(),
    }
    given.tell();
    Ok(cli)
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// Folder of the image store and of the orchestrator's state
    /// [default: /var/lib/gantry, for ordinary users $XDG_DATA_HOME/gantry]
    #[arg(long, global = true, value_name = "DIR", env = "GANTRY_ROOT", hide_env = true,
          value_hint = ValueHint::DirPath, help_heading = "Global options")]
    pub root: Option<PathBuf>,

    /// Folder of the identity to show to agents, made by `gantry operator add`
    /// [default: this orchestrator's own]
    #[arg(long, global = true, value_name = "DIR", env = "GANTRY_IDENTITY", hide_env = true,
          value_hint = ValueHint::DirPath, help_heading = "Global options")]
    pub identity: Option<PathBuf>,

    /// Policy that says which images are accepted here; hosts go by their own
    #[arg(long, global = true, value_name = "FILE", default_value = gantry_signing::DEFAULT_POLICY_PATH,
          env = "GANTRY_SIGNATURE_POLICY", hide_env = true, value_hint = ValueHint::FilePath,
          help_heading = "Global options")]
    pub signature_policy: PathBuf,

    /// Whether what is said has colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        help_heading = "Global options"
    )]
    pub color: Color,
}

/// Whether what is said has colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise (NO_COLOR, CLICOLOR_FORCE)
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(subcommand_help_heading = "Commands")]
pub enum Command {
    /// Build a ClusterImage from a Kubefile and a folder
    Build(commands::build::Args),
    /// What `gantry build` starts for RUN
    #[command(hide = true)]
    BuildRunChild(crate::confinement::ChildArgs),
    /// What `gantry check --rehearse` starts for scripts
    #[command(hide = true)]
    RehearsalChild(crate::confinement::ChildArgs),
    /// What `gantry build` and `gantry check` start for charts
    #[command(hide = true)]
    RenderChart,
    /// List the images of the store
    Images(commands::images::Args),
    /// Show what an image is made of
    Inspect(commands::inspect::Args),
    /// Show how an image was made
    History(commands::history::Args),
    /// List what is in an image, without unpacking it
    Ls(commands::ls::Args),
    /// Show the folders and files of an image as a tree
    Tree(commands::tree::Args),
    /// Print a file of an image, without unpacking it
    Cat(commands::cat::Args),
    /// Write down what an image consists of, as an SBOM
    Sbom(commands::sbom::Args),
    /// Show how an image was built
    Provenance(commands::provenance::Args),
    /// Mount an image's rootfs on this machine, read-only; without an image, list what is mounted
    Mount(commands::mount::MountArgs),
    /// Unmount images
    #[command(visible_alias = "unmount")]
    Umount(commands::mount::UmountArgs),
    /// Say whether an image has every container image that its files name
    ///
    /// What manifests, charts, applications, lists (imageList) and kubeadm name has to be in registry/, whole, for hosts of the
    /// image's platform. Nothing is asked of any network.
    Check(commands::check::Args),
    /// Show what another image changes, and what hosts would be sent
    Diff(commands::diff::Args),
    /// Give an image another name
    Tag(commands::tag::Args),
    /// Make one image of several
    Merge(commands::merge::Args),
    /// Put images for several platforms under one name
    Manifest(commands::manifest::Args),
    /// Remove images, and what only they used
    Rmi(commands::rmi::Args),
    /// Remove what no image needs
    Prune(commands::prune::Args),
    /// Write images to an archive or folder
    Save(commands::save::Args),
    /// Read images from archives and folders
    Load(commands::load::Args),
    /// Bring an image in from a registry
    Pull(commands::pull::Args),
    /// Send an image to a registry
    Push(commands::push::Args),
    /// Sign an image
    ///
    /// The signature is kept beside the image and goes wherever it goes: to registries, into archives, to the hosts. Of an
    /// image for several platforms, its index and every image of it in the store are signed.
    Sign(commands::sign::Args),
    /// Say whether an image is signed by one of these keys
    Verify(commands::verify::Args),
    /// Make keys for signing
    Keys(commands::keys::Args),
    /// List the tags of a repository
    Search(commands::search::Args),
    /// Give a registry a name and a password
    Login(commands::login::LoginArgs),
    /// Forget the login to a registry
    Logout(commands::login::LogoutArgs),
    /// Look after the image store
    Store(commands::store::Args),

    /// Show what apply would do
    Plan(commands::plan::Args),
    /// Bring an image's layers to the hosts, change nothing that runs there
    Stage(commands::stage::Args),
    /// Make the hosts what the Clusterfile says
    ///
    /// Where the image brings kubeadm, they become one Kubernetes cluster. Hosts that are new in the file join it; hosts
    /// that are no longer in the file are drained, leave it and are given back as they were. The plan is shown first.
    Apply(commands::apply::Args),
    /// Make a cluster of an image and hosts, without a Clusterfile at hand
    ///
    /// Makes the Clusterfile that the image brings (`etc/Clusterfile`), or a plain one, say what the command line says, and applies
    /// it: the plan is shown first, and the same command again goes on where it stopped, or does nothing. A cluster that
    /// was applied from here with other hosts, or with another image, is not changed.
    Run(Box<commands::run::Args>),
    /// Add hosts to a cluster: edits its Clusterfile and applies it
    #[command(visible_alias = "scale-up")]
    Join(commands::scale::JoinArgs),
    /// Take hosts out of a cluster: edits its Clusterfile and applies it
    ///
    /// A control plane leaves only if etcd keeps its quorum without it. Hosts that do not answer are given up with --force:
    /// the cluster forgets them, and they are cleaned by the first apply after they are back.
    Delete(commands::scale::DeleteArgs),
    /// Take a cluster back to the image it had before: edits its Clusterfile and applies it
    ///
    /// Kubernetes goes back within a minor version, host by host as in an upgrade. With --kept etcd goes back, too, before
    /// anything else does.
    Rollback(commands::rollback::Args),
    /// Show what is on the hosts
    Status(commands::status::Args),
    /// List certificates of a cluster and of Gantry, renew them
    Certs(commands::certs::Args),
    /// Get the administrator's access to a cluster, for kubectl
    Kubeconfig(commands::kubeconfig::Args),
    /// Write a snapshot of a cluster's etcd to a file
    ///
    /// The snapshot holds everything the cluster knows, its secrets in clear text among it: the file's mode is 0600, and
    /// wherever it is taken it has to be kept as the cluster itself. It is in etcd's own form, with etcd's digest at its
    /// end, which was compared when this command ends well.
    Backup(commands::backup::Args),
    /// Put a cluster's etcd back to a snapshot
    ///
    /// Its members stay who they are: keys that differ from the snapshot are changed, while no API server runs. What etcd
    /// held before is kept on a control plane, so a restore can be undone. The snapshot has to be of the same cluster, and
    /// etcd needs its quorum.
    Restore(commands::restore::Args),
    /// Show what a step wrote on a host
    Logs(commands::logs::Args),
    /// Take a cluster down
    ///
    /// Hosts that it had and that are no longer in the file are taken down, too. While a host does not answer, the cluster is
    /// remembered, and the same command again cleans what is left.
    Reset(commands::reset::Args),

    /// Make tokens for enrolment
    Token(commands::token::Args),
    /// Enrol hosts by a token
    Enroll(commands::enroll::Args),
    /// List enrolled hosts, revoke their certificates
    Agents(commands::agents::Args),
    /// Make identities for other people and programs
    Operator(commands::operator::Args),

    /// Print the JSON Schema of a Clusterfile
    Schema,
    /// Print a completion script for a shell
    #[command(alias = "completion")]
    Completions(commands::documents::CompletionsArgs),
    /// Write man pages
    #[command(hide = true)]
    Man(commands::documents::ManArgs),
    /// What sealer keeps apart
    #[command(hide = true, subcommand)]
    Alpha(Alpha),
    /// Print the version, as --version does
    #[command(hide = true)]
    Version(commands::documents::VersionArgs),
}

/// Commands that sealer has below `alpha`.
#[derive(Debug, Subcommand)]
pub enum Alpha {
    /// The same as `gantry manifest`
    Manifest(commands::manifest::Args),
    /// The same as `gantry mount`
    Mount(commands::mount::MountArgs),
    /// The same as `gantry umount`
    Umount(commands::mount::UmountArgs),
    /// The same as `gantry merge`
    Merge(commands::merge::Args),
    /// The same as `gantry search`
    Search(commands::search::Args),
}

const EXIT_CODES: &str = "\
Exit codes: 0 done or nothing to do, 1 internal, 2 usage or input, 3 preflight refused,
  4 some hosts failed, 5 failed, 6 verification failed, 7 unreachable, 8 locked by another,
  130 interrupted.";

const fn styles() -> Styles {
    Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default().bold())
        .placeholder(AnsiColor::Cyan.on_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_below_helps_are_not_broken_in_the_middle() {
        fn check(command: &clap::Command) {
            let texts = [
                command.get_before_help(),
                command.get_after_help(),
                command.get_after_long_help(),
            ];
            for text in texts.into_iter().flatten() {
                for line in text.to_string().lines() {
                    let (width, name) = (line.chars().count(), command.get_name());
                    assert!(width <= MAX_WIDTH, "help of {name}, {width} columns: {line}");
                }
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
