//! `gantry certs list`: every certificate, the first to end at the top.

use std::net::IpAddr;

use gantry_model::{CertificateKeeper, ExitCode};
use gantry_system::clock::now_s;
use gantry_transport::Rotation;
use serde::Serialize;

use super::{ListArgs, rotation};
use crate::commands::connect;
use crate::commands::enroll::seconds;
use crate::commands::status::red;
use crate::context::Context;
use crate::exit::OrExit as _;
use crate::inventory::ClusterInventory;
use crate::inventory::gather::gather;
use crate::output::{OutputFormat, Table, date, print, print_json};
use crate::plan::renew::RENEW_BEFORE_END_S;
use crate::state::State;

/// One day.
const SECONDS_OF_A_DAY: i64 = 24 * 3600;
/// What stands for this machine.
const HERE: &str = "(here)";

/// One line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    /// Where it lies; none: here.
    host: Option<IpAddr>,
    file: String,
    subject: String,
    not_after: i64,
    days_left: i64,
    keeper: CertificateKeeper,
    /// It ends with the CA that is being replaced.
    of_old_ca: bool,
}

pub(super) fn list(args: ListArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let which = args.cluster.find(context)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let inventory = connect::block_on(
        async {
            let inventory = gather(&dialer, &which.hosts, Some(&which.cluster)).await;
            dialer.close().await;
            Ok(inventory)
        },
        "nothing was changed",
    )?;
    let state = State::new(context.root());
    let mut lines = of_hosts(&inventory, &state)?;
    lines.extend(of_this_orchestrator(&state)?);
    lines.sort_by(|a, b| (a.not_after, a.host, &a.file).cmp(&(b.not_after, b.host, &b.file)));
    match args.output {
        OutputFormat::Json => print_json(&lines)?,
        OutputFormat::Table => print(&table(&lines))?,
    }
    for (host, reason) in inventory.unreachable() {
        anstream::eprintln!("{host}: {reason}");
    }
    tell_rotation(&state)?;
    Ok(inventory.exit_code())
}

fn of_hosts(inventory: &ClusterInventory, state: &State) -> anyhow::Result<Vec<Line>> {
    let old = match state.authority() {
        Ok(authority) => rotation::hosts_of_old_ca(state, &authority)?,
        Err(_) => Vec::new(),
    };
    let old = &old;
    let lines = inventory.reached().flat_map(|(host, report)| {
        report.inventory.certificates.iter().map(move |record| Line {
            host: Some(host),
            file: record.file.clone(),
            subject: record.subject.clone(),
            not_after: record.not_after,
            days_left: days_left(record.not_after),
            keeper: record.keeper,
            of_old_ca: record.keeper == CertificateKeeper::Gantry && old.contains(&host),
        })
    });
    Ok(lines.collect())
}

/// While the CA is replaced: what that waits for.
fn tell_rotation(state: &State) -> anyhow::Result<()> {
    let Ok(authority) = state.authority() else {
        return Ok(());
    };
    let (Some(old), new) = (authority.replaced(), authority.name().or_exit(ExitCode::Failed)?) else {
        return Ok(());
    };
    let hosts = match authority.rotation() {
        Rotation::Dropping => rotation::hosts_to_hear(state, &authority)?,
        _ => rotation::hosts_of_old_ca(state, &authority)?,
    };
    let identities = rotation::identities_of_old_ca(&authority)?;
    let hosts = hosts.iter().map(ToString::to_string);
    let named: Vec<String> = hosts
        .chain(identities.into_iter().map(|record| record.name))
        .collect();
    let waits = if named.is_empty() {
        String::new()
    } else {
        format!(", and waits for {}", named.join(", "))
    };
    anstream::eprintln!("{new} replaces {old}{waits}; `gantry certs rotate-ca` goes on.");
    Ok(())
}

/// The CA's, and those it gave to people and programs.
fn of_this_orchestrator(state: &State) -> anyhow::Result<Vec<Line>> {
    let Ok(authority) = state.authority() else {
        return Ok(Vec::new());
    };
    let own = state.identity_from(&authority)?;
    let line = |file: &str, subject: String, not_after: i64, keeper| Line {
        host: None,
        file: file.to_owned(),
        subject,
        not_after,
        days_left: days_left(not_after),
        keeper,
        of_old_ca: false,
    };
    let ca = authority.ends().or_exit(ExitCode::Failed)?;
    let mut lines = vec![
        line(
            "Gantry's CA",
            authority.name().or_exit(ExitCode::Failed)?,
            seconds(ca),
            CertificateKeeper::Nobody,
        ),
        line(
            "this orchestrator",
            own.name().to_owned(),
            seconds(own.not_after()),
            CertificateKeeper::Gantry,
        ),
    ];
    if let (Some(old), Some(ends)) = (
        authority.replaced(),
        authority.replaced_ends().or_exit(ExitCode::Failed)?,
    ) {
        let line = line("Gantry's CA", old, seconds(ends), CertificateKeeper::Nobody);
        lines.push(Line {
            of_old_ca: true,
            ..line
        });
    }
    let trust = authority.trust().or_exit(ExitCode::Failed)?;
    let issued = authority.issued().or_exit(ExitCode::Failed)?;
    let given = issued.into_iter().filter(|record| {
        let holds = trust.names().any(|ca| ca == record.ca) && !trust.revokes(&record.serial);
        record.role != "agent" && record.name != own.name() && holds
    });
    let old = rotation::identities_of_old_ca(&authority)?;
    lines.extend(given.map(|record| Line {
        of_old_ca: old.contains(&record),
        ..line(
            &format!("{} {}", record.role, record.serial),
            record.name,
            i64::try_from(record.not_after).unwrap_or(i64::MAX),
            CertificateKeeper::Nobody,
        )
    }));
    Ok(lines)
}

fn days_left(not_after: i64) -> i64 {
    (not_after - now_s()).div_euclid(SECONDS_OF_A_DAY)
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new(["ENDS", "DAYS", "HOST", "CERTIFICATE", "OF", "RENEWED BY"]);
    for line in lines {
        let keeper = match line.keeper {
            CertificateKeeper::Kubeadm | CertificateKeeper::Gantry => "gantry",
            CertificateKeeper::Kubelet => "kubelet",
            CertificateKeeper::Nobody => "-",
        };
        let days = line.days_left.to_string();
        let soon = line.days_left * SECONDS_OF_A_DAY < RENEW_BEFORE_END_S;
        table.row([
            date(line.not_after),
            if soon { red(&days) } else { days },
            line.host.map_or_else(|| HERE.to_owned(), |host| host.to_string()),
            line.file.clone(),
            if line.of_old_ca {
                format!("{} (old CA)", line.subject)
            } else {
                line.subject.clone()
            },
            keeper.to_owned(),
        ]);
    }
    table.render()
}
