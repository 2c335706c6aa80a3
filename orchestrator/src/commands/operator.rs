//! `gantry operator`: identities for other people and programs that talk to agents.

use std::path::PathBuf;

use clap::ValueHint;
use gantry_model::ExitCode;
use gantry_system::clock::now_s;
use gantry_transport::{Identity, IssuedRecord, Role};
use serde_json::json;

use super::agents::trust;
use super::certs::rotation;
use super::connect::ConnectArgs;
use super::enroll::seconds;
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output::{OutputFormat, Table, date, print, print_json};
use crate::state::State;

/// Flags of `gantry operator`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an identity; its owner uses it with `gantry --identity DIR`
    Add(AddArgs),
    /// List identities made here
    List(ListArgs),
    /// Revoke an identity: agents refuse it from now on
    Revoke(RevokeArgs),
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Name of the person or program
    #[arg(value_name = "NAME")]
    name: String,

    /// What the identity allows
    #[arg(long, value_name = "ROLE", default_value = "reader")]
    role: OperatorRole,

    /// Folder to write the identity to; hand it over by a safe way, the key is in it
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OperatorRole {
    /// May look: status, logs, plan
    Reader,
    /// May change hosts
    Operator,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: OutputFormat,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Name, or serial number of one certificate
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs `gantry operator`.
///
/// # Errors
/// When there is no CA here, or files cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add(args) => add(&args, &State::new(context.root())),
        Command::List(args) => list(&args, &State::new(context.root())),
        Command::Revoke(args) => revoke(&args, context),
    }
}

fn add(args: &AddArgs, state: &State) -> anyhow::Result<ExitCode> {
    if !state.has_authority() {
        anstream::eprintln!(
            "note: this machine had no CA; the one that is made now is trusted by no host before `gantry enroll` was run here"
        );
    }
    let authority = state.authority_or_create()?;
    if Identity::exists(&args.output) {
        let message = format!("{} holds an identity already", args.output.display());
        return Err(failure_hint(ExitCode::Input, message, "choose another folder"));
    }
    let role = match args.role {
        OperatorRole::Reader => Role::Reader,
        OperatorRole::Operator => Role::Operator,
    };
    let identity = authority
        .issue_operator(&args.name, role)
        .or_exit(ExitCode::Input)?;
    let identity = rotation::without_old_ca(state, &authority, identity)?;
    identity.save(&args.output).or_exit(ExitCode::Failed)?;
    let ends = date(seconds(identity.not_after()));
    anstream::eprintln!(
        "{role} {} until {ends} UTC: `gantry --identity {} …`",
        args.name,
        args.output.display()
    );
    Ok(ExitCode::Done)
}

fn list(args: &ListArgs, state: &State) -> anyhow::Result<ExitCode> {
    if !state.has_authority() {
        match args.output {
            OutputFormat::Json => print_json(&[(); 0])?,
            OutputFormat::Table => {
                anstream::eprintln!("No identities were made here. `gantry operator add NAME -o DIR`.");
            }
        }
        return Ok(ExitCode::Done);
    }
    let authority = state.authority()?;
    let mut issued = authority.issued().or_exit(ExitCode::Failed)?;
    issued.retain(|record| record.role != Role::Agent.as_str());
    let trust = authority.trust().or_exit(ExitCode::Failed)?;
    let state_of = |record: &IssuedRecord| {
        if trust.revokes(&record.serial) {
            "revoked"
        } else if trust.names().any(|ca| ca == record.ca) {
            "valid"
        } else {
            // By `gantry certs rotate-ca`.
            "dropped"
        }
    };
    if args.output == OutputFormat::Json {
        let record = |record: &IssuedRecord| {
            let certificate = json!({
                "serial": record.serial, "role": record.role, "name": record.name,
                "issuedAt": record.issued_at, "notAfter": record.not_after, "ca": record.ca,
            });
            json!({ "certificate": certificate, "state": state_of(record) })
        };
        print_json(&issued.iter().map(record).collect::<Vec<_>>())?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(["NAME", "ROLE", "SERIAL", "ENDS", "STATE"]);
    for record in issued {
        let ends = date(i64::try_from(record.not_after).unwrap_or(i64::MAX));
        let state = state_of(&record).to_owned();
        table.row([record.name, record.role, record.serial, ends, state]);
    }
    print(&table.render())?;
    Ok(ExitCode::Done)
}

fn revoke(args: &RevokeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let state = State::new(context.root());
    // Where there is none, there is no folder for a lock either.
    state.authority()?;
    let _alone = state.lock_rotation()?;
    let authority = state.authority()?;
    let own = state.identity_from(&authority)?;
    let mut issued = authority.issued().or_exit(ExitCode::Failed)?;
    issued.retain(|record| record.role != Role::Agent.as_str());
    issued.retain(|record| record.name == args.name || record.serial == args.name);
    // One that has ended is refused without a list.
    issued.retain(|record| {
        own.is_revoked(&record.serial) || i64::try_from(record.not_after).is_ok_and(|end| end > now_s())
    });
    let (before, issued): (Vec<_>, Vec<_>) = issued
        .into_iter()
        .partition(|record| own.is_revoked(&record.serial));
    for record in &before {
        // Who was killed may have written some lists and not all.
        authority.revoke(&record.serial).or_exit(ExitCode::Failed)?;
    }
    if issued.is_empty() {
        let message = format!("there is no valid identity of {:?} made here", args.name);
        return Err(failure_hint(
            ExitCode::Input,
            message,
            "`gantry operator list` shows names",
        ));
    }
    if issued.iter().any(|record| record.serial == own.serial()) {
        let message = "this is the identity this orchestrator itself uses; nothing was revoked";
        return Err(failure_hint(ExitCode::Input, message, "name another one"));
    }
    for record in &issued {
        authority.revoke(&record.serial).or_exit(ExitCode::Failed)?;
        anstream::eprintln!(
            "Revoked {} {} (certificate {}).",
            record.role,
            record.name,
            record.serial
        );
    }
    trust::deliver_to_all(context, &args.connect)
}
