//! `gantry backup`: a snapshot of a cluster's etcd, from one of its control planes into a file.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::ValueHint;
use gantry_model::{ClusterName, Digest, ExitCode, SnapshotCheck};
use gantry_system::files::sync_dir;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::connect::{self, ConnectArgs};
use super::output_file;
use super::which::WhichArgs;
use crate::context::Context;
use crate::exit::{OrExit as _, failure_hint};
use crate::output;
use crate::session::{AgentSession, SessionError, Sessions};

/// Parts that may wait for the disk.
const WAITING_PARTS: usize = 8;

/// Flags of `gantry backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gantry backup -o demo.snapshot                     of the only cluster applied from here
  gantry backup -c demo -o /backup/demo-$(date +%F)  a file for every day

The first control plane that can give one does. Anybody's `etcdctl snapshot restore FILE` reads it.")]
pub struct Args {
    /// File to write, which only its owner may read; one that is there is replaced once the new one is whole
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,

    #[command(flatten)]
    which: WhichArgs,

    #[command(flatten)]
    connect: ConnectArgs,
}

/// Why there is no snapshot.
enum NotTaken {
    /// Each of these hosts gave none: the exit code of a command that asks it alone, and for people why.
    Hosts(Vec<(IpAddr, ExitCode, String)>),
    /// Nor could another host's be written.
    File(io::Error),
}

/// A snapshot that is whole, in a file that has no name yet.
struct Taken {
    host: IpAddr,
    file: NamedTempFile,
    len: u64,
    database: Digest,
}

/// Writes a snapshot of the cluster's etcd.
///
/// # Errors
/// When no host gives one that is whole, or it cannot be written.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let folder = output_file::folder(&args.output)?;
    let which = args.which.need(context)?;
    let dialer = connect::dialer(context, &args.connect)?;
    let taken = connect::block_on(
        async {
            let taken = first(&dialer, &which.cluster, &which.hosts, folder).await;
            dialer.close().await;
            Ok(taken)
        },
        "nothing was written",
    )?;
    let cannot = || format!("cannot write {}", args.output.display());
    let taken = match taken {
        Ok(taken) => taken,
        Err(NotTaken::File(error)) => return Err(error).with_context(cannot).or_exit(ExitCode::Failed),
        Err(NotTaken::Hosts(hosts)) => {
            let said: Vec<_> = hosts.iter().map(|(host, code, _)| (*host, *code)).collect();
            let (code, hint) = connect::none_answered(&which.masters, &said)
                .unwrap_or((ExitCode::Failed, "`gantry status` shows how its etcd is"));
            let mut message = format!("no host of cluster {} gave a snapshot of etcd:", which.cluster);
            for (host, _, reason) in &hosts {
                message.push_str(&format!("\n  {host}: {reason}"));
            }
            return Err(failure_hint(code, message, hint));
        }
    };
    let written = taken.file.persist(&args.output).map_err(|error| error.error);
    written
        .and_then(|_| sync_dir(folder))
        .with_context(cannot)
        .or_exit(ExitCode::Failed)?;
    anstream::eprintln!(
        "Written to {}: {} of etcd's data from {}, {}.\nIt holds the cluster's secrets: keep it as you keep the cluster.",
        args.output.display(),
        output::bytes(taken.len),
        taken.host,
        taken.database,
    );
    Ok(ExitCode::Done)
}

/// A snapshot from the first host that gives a whole one, or why each did not.
async fn first<S: Sessions>(
    sessions: &S,
    cluster: &ClusterName,
    hosts: &[IpAddr],
    folder: &Path,
) -> Result<Taken, NotTaken> {
    let mut asked = Vec::new();
    for &host in hosts {
        let taken = match sessions.session(host).await {
            Ok(session) => take(&session, cluster, host, folder).await,
            Err(error) => Err(refused(host, &error)),
        };
        match taken {
            Err(NotTaken::Hosts(reason)) => asked.extend(reason),
            decided => return decided,
        }
    }
    Err(NotTaken::Hosts(asked))
}

fn refused(host: IpAddr, error: &SessionError) -> NotTaken {
    NotTaken::Hosts(vec![(host, error.exit_code(), error.without_address(host))])
}

async fn take<S: AgentSession>(
    session: &S,
    cluster: &ClusterName,
    host: IpAddr,
    folder: &Path,
) -> Result<Taken, NotTaken> {
    let (parts, received) = mpsc::channel(WAITING_PARTS);
    let (asked, written) = tokio::join!(session.etcd_snapshot(cluster, parts), write(received, folder));
    let (file, check) = written.map_err(NotTaken::File)?;
    asked.map_err(|error| refused(host, &error))?;
    let len = check.len();
    let database = check.finish().map_err(|error| {
        let reason = format!("the snapshot that came cannot be used: {error}");
        NotTaken::Hosts(vec![(host, ExitCode::Failed, reason)])
    })?;
    Ok(Taken {
        host,
        file,
        len,
        database,
    })
}

/// Writes what comes to a file in `folder`.
async fn write(
    mut received: mpsc::Receiver<Bytes>,
    folder: &Path,
) -> io::Result<(NamedTempFile, SnapshotCheck)> {
    // tempfile makes it with mode 0600, whatever the umask says.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    let mut check = SnapshotCheck::default();
    while let Some(part) = received.recv().await {
        check.add(&part);
        file.write_all(&part)?;
    }
    file.as_file().sync_all()?;
    Ok((file, check))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn what_comes_is_for_its_owner_alone_and_looked_through() {
        let folder = tempfile::tempdir().unwrap();
        let database = vec![7; 4096];
        let snapshot = [&database[..], Digest::of(&database).as_bytes()].concat();
        let (parts, received) = mpsc::channel(8);
        for part in snapshot.chunks(1000) {
            parts.send(Bytes::copy_from_slice(part)).await.unwrap();
        }
        drop(parts);
        let (file, check) = write(received, folder.path()).await.unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), snapshot);
        assert_eq!(check.finish(), Ok(Digest::of(&database)));
        let mode = file.as_file().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        drop(file);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "one that is not kept leaves nothing"
        );
    }
}
