//! `gantry restore`: a cluster's etcd comes to hold again what a snapshot holds.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{ArgGroup, ValueHint};
use gantry_model::{ClusterName, Digest, ExitCode, SnapshotCheck, SnapshotName, StepAction};
use gantry_protocol::limits::MAX_SNAPSHOT_LEN;
use tokio::sync::mpsc;
use tokio::task;

use super::apply::ExecuteArgs;
use super::confirm::confirm;
use super::connect::{self, ConnectArgs};
use super::known_steps::refuse_unknown;
use super::which::WhichArgs;
use crate::context::Context;
use crate::exit::{OrExit as _, failure, failure_hint};
use crate::inventory::gather::gather;
use crate::plan::restore::{Restore, kept};
use crate::plan::{PlannedStep, check, render};
use crate::session::{AgentSession, SessionError, Sessions as _};
use crate::state::State;

/// How much of a file is read at a time, in bytes.
const PART_LEN: usize = 1 << 20;
/// Parts that may wait for the network.
const WAITING_PARTS: usize = 8;

/// Flags of `gantry restore`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("snapshot").required(true), after_help = "\
Examples:
  gantry restore -i demo.snapshot          what `gantry backup` wrote
  gantry restore --kept v1.20.3            what was kept before the upgrade to v1.20.3
  gantry restore --kept restore-5f3a91c0   what was kept before a restore, to undo it

While etcd is restored no API server runs; pods go on. A restore that was cut off goes on with the
same command. Where the cluster's CA was replaced since the snapshot, the cluster is told the
present one at the end, and pods of kube-system that do not know it start anew; those elsewhere
that ask the API server are yours to start anew.")]
pub struct Args {
    /// File that `gantry backup` or `etcdctl snapshot save` wrote
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, group = "snapshot")]
    input: Option<PathBuf>,

    /// Snapshot that was kept on a control plane before this: a version, or a restore
    #[arg(long, value_name = "BEFORE", group = "snapshot")]
    kept: Option<String>,

    #[command(flatten)]
    which: WhichArgs,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    execute: ExecuteArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Makes etcd of a cluster hold what a snapshot holds.
///
/// # Errors
/// When the snapshot cannot be used or the cluster is not fit for it; failures of hosts are reported and give the exit code.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let which = args.which.need(context)?;
    let snapshot = match (&args.input, &args.kept) {
        (Some(file), _) => SnapshotName::Given(look_through(file)?),
        (None, kept) => SnapshotName::Before(kept.clone().unwrap_or_default()),
    };
    let state = State::new(context.root());
    let dialer = connect::dialer(context, &args.connect)?;
    let _lock = state.cluster(&which.cluster).lock("restore")?;
    let detached = "API servers may be stopped; run the same command again, and it goes on to its end";
    connect::block_on(
        async {
            let inventory = gather(&dialer, &which.hosts, Some(&which.cluster)).await;
            let restore = Restore::new(
                &which.cluster,
                &which.hosts,
                &which.masters,
                &inventory,
                snapshot.clone(),
            )?;
            for (host, reason) in inventory.unreachable() {
                anstream::eprintln!(
                    "{host} is left as it is, so its kubelet is to be restarted there: {reason}"
                );
            }
            let plan = restore.plan(&inventory);
            check::check(&plan)?;
            refuse_unknown(&plan, &[], &dialer).await?;
            anstream::eprintln!("{}", render::render(&plan));
            let question = "Put the cluster back to what the snapshot holds? What came later is lost.";
            if !confirm(question, args.yes).await? {
                anstream::eprintln!("Nothing was done.");
                return Ok(ExitCode::Interrupted);
            }
            let restores = |step: &PlannedStep| matches!(step.step.action, StepAction::RestoreEtcd { .. });
            let begins = plan.steps().any(|step| restores(step) && step.is_to_do());
            if let (SnapshotName::Given(database), Some(file), true) = (&snapshot, &args.input, begins) {
                let session = dialer.session(restore.on()).await;
                let given = match session {
                    Ok(session) => give(&session, &which.cluster, *database, file).await,
                    Err(error) => Err(error),
                };
                given.map_err(|error| {
                    let reason = error.without_address(restore.on());
                    failure(
                        ExitCode::Failed,
                        format!(
                            "{} does not take the snapshot: {reason}; nothing was changed",
                            restore.on()
                        ),
                    )
                })?;
            }
            let outcome = args.execute.run(&plan, &dialer).await?;
            let after = gather(&dialer, &[restore.on()], Some(&which.cluster)).await;
            dialer.close().await;
            match (outcome.exit_code(), kept(&which.cluster, &after).last()) {
                (ExitCode::Done, Some(kept)) => anstream::eprintln!(
                    "What etcd held before is kept: `gantry restore --kept {kept}` undoes this. `gantry status` shows the nodes."
                ),
                (ExitCode::Done, None) => {}
                _ => anstream::eprintln!("{}", stopped(&which.cluster)),
            }
            Ok(outcome.exit_code())
        },
        detached,
    )
}

/// What is to be known when a restore did not come to its end.
pub(super) fn stopped(cluster: &ClusterName) -> String {
    format!(
        "API servers may be stopped: run the same command again, it goes on where it stopped. To leave it: move \
         /var/lib/gantry/etcd-snapshots/{cluster}/kube-apiserver.yaml on each control plane back to /etc/kubernetes/manifests."
    )
}

/// The digest of the database in the snapshot `file`, which is whole.
fn look_through(file: &Path) -> anyhow::Result<Digest> {
    let mut check = SnapshotCheck::default();
    let mut read = || {
        let mut parts = Parts::open(file)?;
        while let Some(part) = parts.next()? {
            check.add(&part);
            if check.len() > MAX_SNAPSHOT_LEN {
                return Err(io::Error::other(format!(
                    "it has more than {MAX_SNAPSHOT_LEN} bytes"
                )));
            }
        }
        Ok(())
    };
    read()
        .with_context(|| format!("cannot read {}", file.display()))
        .or_exit(ExitCode::Input)?;
    check.finish().map_err(|error| {
        failure_hint(
            ExitCode::Verification,
            format!("{} is no snapshot of etcd: {error}", file.display()),
            "`gantry backup` and `etcdctl snapshot save` write snapshots; a copied database file has no digest behind it",
        )
    })
}

/// A file, part by part.
struct Parts(File);

impl Parts {
    fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut part = Vec::with_capacity(PART_LEN);
        (&self.0).take(PART_LEN as u64).read_to_end(&mut part)?;
        Ok((!part.is_empty()).then(|| part.into()))
    }
}

/// Hands the snapshot in `file` to a control plane.
async fn give<S: AgentSession>(
    session: &S,
    cluster: &ClusterName,
    database: Digest,
    file: &Path,
) -> Result<(), SessionError> {
    let (send, parts) = mpsc::channel(WAITING_PARTS);
    let path = file.to_owned();
    let reading = task::spawn_blocking(move || {
        let mut parts = Parts::open(&path)?;
        while let Some(part) = parts.next()? {
            // It has the snapshot already, or says itself what is wrong.
            if send.blocking_send(part).is_err() {
                break;
            }
        }
        io::Result::Ok(())
    });
    let (given, read) = tokio::join!(session.give_snapshot(cluster, database, parts), reading);
    let failed = |error: String| SessionError::Failed(format!("cannot read {}: {error}", file.display()));
    match read {
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
        Ok(Ok(())) => given,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_whole_snapshot_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let database = vec![7; 3 * PART_LEN];
        let mut snapshot = [&database[..], Digest::of(&database).as_bytes()].concat();
        fs::write(&path, &snapshot).unwrap();
        assert_eq!(look_through(&path).unwrap(), Digest::of(&database));
        snapshot[PART_LEN + 1] ^= 1;
        fs::write(&path, &snapshot).unwrap();
        let damaged = look_through(&path).unwrap_err();
        assert!(
            damaged
                .to_string()
                .contains("snapshot is no snapshot of etcd: it is damaged"),
            "{damaged}"
        );
        assert!(look_through(&folder.path().join("absent")).is_err());
    }
}
