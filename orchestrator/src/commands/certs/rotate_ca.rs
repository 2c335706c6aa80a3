//! `gantry certs rotate-ca`: another CA of Gantry's own takes the place of the present one.

use std::net::IpAddr;

use gantry_model::ExitCode;
use gantry_transport::{Authority, IssuedRecord, Rotation};

use super::rotation::{self, Progress};
use crate::commands::confirm::confirm;
use crate::commands::connect::{self, ConnectArgs};
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::state::{ClusterLock, State, known_clusters};

/// Flags of `gantry certs rotate-ca`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Do not wait for people and programs that have an identity of the old CA: theirs end with it
    #[arg(long)]
    drop_identities: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

const EXAMPLES: &str = "\
This replaces the CA by which Gantry's agents and orchestrators know each other. The cluster's own
(/etc/kubernetes/pki/ca.crt) stays as it is: `gantry certs rotate-cluster-ca` replaces that.

  1. A new CA is made, and the old one vouches for it. From now on the new one signs.
  2. Every host enrolled from here is told to trust both, and its agent gets a certificate of the
     new one. No session is cut. A host that is off keeps the old one, and goes on working.
  3. When every host has one, and every identity of `gantry operator add` was made anew, the old
     CA is dropped: its key is destroyed, and the hosts refuse its certificates.

Run it again until it says that it is done. It goes on where it stopped, after a power cut, too;
`gantry apply` and `gantry certs renew` take along hosts that are back. Then back up the state of
this machine: a copy from before has no CA that the hosts trust.

Examples:
  gantry certs rotate-ca            begin, or go on
  gantry certs rotate-ca -y         from a script: exit code 4 while hosts are missing, 3 while
                                    identities are
  gantry operator add ann --role operator -o ann
                                    ann's identity of the new CA, while both are trusted
  gantry certs rotate-ca --drop-identities
                                    who has none of the new CA by now is refused from then on
  gantry agents revoke 10.0.0.9     a host that is gone for good is not waited for";

/// Runs `gantry certs rotate-ca`.
///
/// # Errors
/// When there is no CA here, another command changes hosts, or nobody can answer a question.
pub(super) fn rotate(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    if context.identity().is_some() {
        return Err(failure_hint(
            ExitCode::Input,
            "the CA is replaced by the orchestrator that has it, not by another identity",
            "run it without --identity, on the machine that enrolled the hosts",
        ));
    }
    let state = State::new(context.root());
    let authority = state.authority()?;
    let _alone = state.lock_rotation()?;
    let _locks = lock_clusters(&state)?;
    let begin = async {
        if authority.rotation() != Rotation::Settled {
            return Ok(Some(authority));
        }
        if !confirm(
            "Make another CA of Gantry's, and replace the present one on every host?",
            args.yes,
        )
        .await?
        {
            return Ok(None);
        }
        authority.begin_rotation().map(Some).or_exit(ExitCode::Failed)
    };
    let detached = "`gantry certs rotate-ca` goes on where it stopped";
    let Some(authority) = connect::block_on(begin, "nothing was changed")? else {
        anstream::eprintln!("Nothing was done.");
        return Ok(ExitCode::Interrupted);
    };
    let (old, new) = (authority.replaced().unwrap_or_default(), name(&authority)?);
    anstream::eprintln!("{new} replaces {old}.");
    // Shows a certificate of the new CA from now on.
    let dialer = connect::dialer(context, &args.connect)?;
    let progress = connect::block_on(
        async {
            let progress = rotation::go_on(&state, &dialer, args.drop_identities).await?;
            dialer.close().await;
            Ok(progress)
        },
        detached,
    )?;
    // The trust in the old CA is in this orchestrator's own identity, too.
    state.own_identity()?;
    Ok(tell(&progress, &old, &new))
}

/// Says how far it came; the exit code says it to programs.
fn tell(progress: &Progress, old: &str, new: &str) -> ExitCode {
    match progress {
        Progress::HostsToGo(hosts) => {
            tell_hosts(hosts, &format!("has no certificate of {new} yet"));
            anstream::eprintln!(
                "Both CAs are trusted until every host has one: `gantry certs rotate-ca` goes on when they are back. \
                 A host that is gone for good: `gantry agents revoke HOST`."
            );
            ExitCode::SomeHostsFailed
        }
        Progress::IdentitiesToGo(identities) => {
            tell_identities(identities, old);
            ExitCode::Preflight
        }
        Progress::HostsToHear(hosts) => {
            tell_hosts(hosts, &format!("still trusts {old}"));
            anstream::eprintln!(
                "{old} is dropped: its key is destroyed. These hosts hear of it with the next `gantry apply`; \
                 `gantry certs rotate-ca` makes sure of all."
            );
            ExitCode::SomeHostsFailed
        }
        Progress::Done => {
            anstream::eprintln!("Done: every host trusts {new} alone, and {old} is gone.");
            ExitCode::Done
        }
    }
}

fn tell_hosts(hosts: &[(IpAddr, String)], what: &str) {
    for (host, reason) in hosts {
        anstream::eprintln!("{host} {what}: {reason}");
    }
}

fn tell_identities(identities: &[IssuedRecord], old: &str) {
    anstream::eprintln!(
        "Every host has its certificate of the new CA. These identities are of {old}, and end with it:"
    );
    for record in identities {
        anstream::eprintln!(
            "  {} {} (certificate {})",
            record.role,
            record.name,
            record.serial
        );
    }
    anstream::eprintln!(
        "Make them anew (`gantry operator add NAME --role ROLE -o DIR`) and hand them over, then run this again; \
         or let them end: `gantry certs rotate-ca --drop-identities`."
    );
}

fn name(authority: &Authority) -> anyhow::Result<String> {
    authority.name().or_exit(ExitCode::Failed)
}

/// No other command changes hosts meanwhile: it could not dial them again with the identity it has.
fn lock_clusters(state: &State) -> anyhow::Result<Vec<ClusterLock>> {
    let clusters = known_clusters(state)?.into_iter();
    clusters
        .map(|name| state.cluster(&name).lock("certs rotate-ca"))
        .collect()
}
