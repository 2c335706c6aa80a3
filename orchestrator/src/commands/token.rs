//! `gantry token`: one-time tokens for enrolment.

use std::time::Duration;

use gantry_model::ExitCode;
use gantry_transport::Token;
use serde_json::json;

use super::enroll::seconds;
use crate::context::Context;
use crate::exit::failure_hint;
use crate::output::{OutputFormat, Table, date, print, print_json};
use crate::state::State;

/// Flags of `gantry token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token and print it
    Create(CreateArgs),
    /// List tokens that have not ended; their text is not kept
    List(ListArgs),
    /// Make tokens worthless
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// How long it can be used
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,

    /// How many hosts it can enrol
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    uses: u32,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Ids of the tokens, as `gantry token list` shows them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    // Ends are kept in seconds.
    if ttl < Duration::from_secs(1) {
        return Err("a token lives for a second at least".to_owned());
    }
    Ok(ttl)
}

/// Runs `gantry token`.
///
/// # Errors
/// When the state cannot be read or written, or a token is unknown.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let state = State::new(context.root());
    match args.command {
        Command::Create(args) => create(&args, &state),
        Command::List(args) => list(&args, &state),
        Command::Revoke(args) => revoke(&args, &state),
    }
}

fn create(args: &CreateArgs, state: &State) -> anyhow::Result<ExitCode> {
    // The CA is made here, so that a missing right to write is noticed before the token is carried to hosts.
    let authority = state.authority_or_create()?;
    state.identity_from(&authority)?;
    let token = Token::create(args.ttl);
    state.tokens().add(token.record(args.uses))?;
    print(&format!("{token}\n"))?;
    let hosts = if args.uses == 1 {
        "one host".into()
    } else {
        format!("{} hosts", args.uses)
    };
    let ends = date(seconds(token.expires()));
    anstream::eprintln!(
        "For {hosts}, until {ends} UTC. Put it into /etc/gantry/token on the host, then `gantry enroll HOST`."
    );
    Ok(ExitCode::Done)
}

fn list(args: &ListArgs, state: &State) -> anyhow::Result<ExitCode> {
    let tokens = state.tokens().all()?;
    if args.output == OutputFormat::Json {
        let token = |token: &gantry_transport::TokenRecord| {
            json!({ "id": token.id, "expires": token.expires, "usesLeft": token.uses_left,
                    "usedBy": token.used_by.iter().map(|(host, _)| host).collect::<Vec<_>>() })
        };
        print_json(&tokens.iter().map(token).collect::<Vec<_>>())?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["ID", "ENDS", "USES LEFT", "USED BY"]);
    for token in tokens {
        let used: Vec<&str> = token.used_by.iter().map(|(host, _)| host.as_str()).collect();
        let used = if used.is_empty() {
            "-".into()
        } else {
            used.join(",")
        };
        let ends = date(i64::try_from(token.expires).unwrap_or(i64::MAX));
        table.row([token.id, ends, token.uses_left.to_string(), used]);
    }
    print(&table.render())?;
    Ok(ExitCode::Done)
}

fn revoke(args: &RevokeArgs, state: &State) -> anyhow::Result<ExitCode> {
    let unknown = state.tokens().remove(&args.ids)?;
    if unknown.is_empty() {
        return Ok(ExitCode::Done);
    }
    let others = if unknown.len() < args.ids.len() {
        "the others are revoked"
    } else {
        "nothing was revoked"
    };
    let message = format!("unknown or ended: {}; {others}", unknown.join(", "));
    Err(failure_hint(
        ExitCode::Input,
        message,
        "`gantry token list` shows ids",
    ))
}
