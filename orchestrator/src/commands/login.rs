//! `gantry login` and `gantry logout`.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use gantry_model::ExitCode;
use gantry_registry_client::{Credentials, Namespace};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::connect;
use super::registry::{RegistryArgs, registry_error};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output;
use crate::report::transfers::Transfers;

/// Most bytes of a password: tokens of clouds have some thousand.
const MAX_SECRET_LEN: u64 = 64 << 10;

/// Flags of `gantry login`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The login is kept where podman, buildah and skopeo look for it, in --authfile or else in
  $XDG_RUNTIME_DIR/containers/auth.json, or by the credential helper that is configured there.
A login to a part of a registry, HOST/PATH, counts for the repositories in it alone; for each
repository the one that is nearest counts.

Examples:
  gantry login sea.hub:5000                                           asks for name and password
  gantry login sea.hub:5000/team -u team                              for what is below team/ alone
  gantry login sea.hub:5000 -u ci --password-stdin < /run/secrets/hub  asks nobody")]
pub struct LoginArgs {
    /// The registry or a part of it, HOST[:PORT][/PATH]
    #[arg(value_name = "REGISTRY")]
    registry: String,

    /// The name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// The password; other users of this machine can see it on a command line
    #[arg(
        short,
        long,
        alias = "password",
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    passwd: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,

    #[command(flatten)]
    options: RegistryArgs,
}

/// Flags of `gantry logout`.
#[derive(Debug, clap::Args)]
pub struct LogoutArgs {
    /// The registry or a part of it, HOST[:PORT][/PATH]
    #[arg(value_name = "REGISTRY")]
    registry: String,

    #[command(flatten)]
    options: RegistryArgs,
}

/// Runs `gantry login`.
///
/// # Errors
/// When the registry does not accept the name and the password.
pub fn login(args: LoginArgs, _: &Context) -> anyhow::Result<ExitCode> {
    let registry = namespace(&args.registry)?;
    if args.passwd.is_some() {
        anstream::eprintln!(
            "warning: a password on the command line is seen by other users; --password-stdin is not"
        );
    }
    let user = match args.username {
        Some(user) => user,
        None => ask(&format!("Name for {registry}: "), true)?,
    };
    let secret = match args.passwd {
        Some(secret) => secret,
        None if args.password_stdin => read_secret()?,
        None => ask(&format!("Password of {user}: "), false)?,
    };
    if user.is_empty() || user.contains(':') || secret.is_empty() {
        let message = "a name without ':' and a password are needed";
        return Err(failure_hint(
            ExitCode::Input,
            message,
            "give -u NAME and --password-stdin",
        ));
    }
    let transfers = Arc::new(Transfers::new("", false));
    let client = args
        .options
        .client(Some(Credentials::Password { user, secret }), &transfers)?;
    let kept = connect::block_on(
        async { client.log_in(&registry).await.map_err(registry_error) },
        "no login was kept",
    )?;
    output::print(&format!("logged in to {registry}; the login is kept by {kept}\n"))?;
    Ok(ExitCode::Done)
}

/// Runs `gantry logout`.
///
/// # Errors
/// When nobody is logged in there, or the auth file cannot be written.
pub fn logout(args: LogoutArgs, _: &Context) -> anyhow::Result<ExitCode> {
    let registry = namespace(&args.registry)?;
    let transfers = Arc::new(Transfers::new("", false));
    let client = args.options.client(None, &transfers)?;
    let forgotten = connect::block_on(
        async { client.log_out(&registry).await.map_err(registry_error) },
        "the login is still there",
    )?;
    match forgotten {
        Some(place) => output::print(&format!(
            "logged out of {registry}; {place} no longer has the login\n"
        ))?,
        None => anstream::eprintln!("no login to {registry} is kept"),
    }
    Ok(ExitCode::Done)
}

fn namespace(text: &str) -> anyhow::Result<Namespace> {
    Namespace::parse(text)
        .map_err(anyhow::Error::msg)
        .or_exit(ExitCode::Input)
}

fn read_secret() -> anyhow::Result<String> {
    let mut secret = String::new();
    io::stdin()
        .take(MAX_SECRET_LEN)
        .read_to_string(&mut secret)
        .context("cannot read the password from standard input")
        .or_exit(ExitCode::Input)?;
    Ok(secret.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks on the terminal; what is typed is shown or not.
fn ask(question: &str, shown: bool) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let message = "there is no terminal to ask for a name and a password on";
        return Err(failure_hint(
            ExitCode::Input,
            message,
            "give -u NAME and --password-stdin",
        ));
    }
    anstream::eprint!("{question}");
    io::stderr().flush()?;
    let before = tcgetattr(&stdin).context("cannot look at the terminal")?;
    if !shown {
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        // What was typed before the question is not the answer.
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).context("cannot make the terminal silent")?;
    }
    // On a thread of its own, so that Ctrl-C works while it waits, and the terminal gets its echo back.
    let read = connect::block_on(
        async {
            tokio::task::spawn_blocking(|| {
                let mut answer = String::new();
                io::stdin().read_line(&mut answer).map(|_| answer)
            })
            .await?
            .context("cannot read the answer")
        },
        "no login was kept",
    );
    if !shown {
        tcsetattr(&stdin, SetArg::TCSANOW, &before).context("cannot give the terminal its echo back")?;
        anstream::eprintln!();
    }
    Ok(read?.trim_end_matches(['\r', '\n']).to_owned())
}
