//! Runs a program that brings something from elsewhere into a folder, and ends it when it brings too much, or nothing any more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// What every file and folder counts as, at least: a block. So many empty ones are much, too.
const MIN_ENTRY_LEN: u64 = 4096;
/// Most bytes that the program may print.
pub(super) const MAX_SAID_LEN: u64 = 1 << 20;
/// How often the folder is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks so many times as long passes as a look takes: looking is not what the time goes into.
const PAUSE_FACTOR: u32 = 20;

/// What a program may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Most bytes of the folder.
    pub(super) max_len: u64,
    /// How long the folder may change by less than `least_change`.
    pub(super) patience: Duration,
    /// The bytes that count as progress.
    pub(super) least_change: u64,
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Itself(Said),
    /// It brought more than it may, and was ended.
    TooLarge,
    /// It printed more than [`MAX_SAID_LEN`], and was ended.
    TooLoud,
    /// It brought nothing any more, and was ended.
    Stuck,
}

/// What a program that ended by itself printed.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs `command`, which writes into `folder`. When a bound is passed, it ends with everything that it started.
///
/// # Errors
/// When it cannot be started or watched.
pub(super) fn run(command: &mut Command, folder: &Path, bounds: &Bounds) -> io::Result<Ended> {
    // Not pipes: whoever is left over of its children could keep them open for ever.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let mut child = command.spawn()?;
    let said_len = || -> io::Result<u64> { Ok(stdout.metadata()?.len() + stderr.metadata()?.len()) };
    match watch(&child, bounds, || Ok((len(folder), said_len()?))) {
        Ok(None) => Ok(Ended::Itself(Said {
            status: child.wait()?,
            stdout: whole(&mut stdout)?,
            stderr: whole(&mut stderr)?,
        })),
        Ok(Some(passed)) => {
            end(&mut child)?;
            Ok(passed)
        }
        Err(error) => {
            end(&mut child)?;
            Err(error)
        }
    }
}

/// Waits until the child ended, which it still has to be waited for; or gives the bound that was passed. `look` says how many
/// bytes the folder has, and how many were printed.
fn watch(
    child: &Child,
    bounds: &Bounds,
    look: impl Fn() -> io::Result<(u64, u64)>,
) -> io::Result<Option<Ended>> {
    let pid = pid(child.id());
    let (ends, ended) = mpsc::channel();
    // It ends with the child, which is not gone before it was waited for: its id stays its own.
    thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let _ = ends.send(waitid(WaitId::Pid(pid), options).map(drop));
    });
    let (mut counted, mut since) = (0, Instant::now());
    let mut pause = LOOK_EVERY.min(bounds.patience);
    loop {
        let is_over = match ended.recv_timeout(pause) {
            Ok(waited) => {
                waited?;
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("nobody waits for it")),
        };
        let began = Instant::now();
        let (len, said) = look()?;
        if len > bounds.max_len {
            return Ok(Some(Ended::TooLarge));
        }
        if said > MAX_SAID_LEN {
            return Ok(Some(Ended::TooLoud));
        }
        if is_over {
            return Ok(None);
        }
        if len.abs_diff(counted) >= bounds.least_change {
            (counted, since) = (len, Instant::now());
        } else if since.elapsed() >= bounds.patience {
            return Ok(Some(Ended::Stuck));
        }
        pause = pause.max(began.elapsed() * PAUSE_FACTOR);
    }
}

/// Ends a child and all that it started.
fn end(child: &mut Child) -> io::Result<()> {
    // Before the child ends: then they would be somebody else's.
    for descendant in descendants(child.id()) {
        let _ = kill_process(pid(descendant), Signal::KILL);
    }
    child.kill()?;
    child.wait().map(drop)
}

fn pid(id: u32) -> Pid {
    let id = id.try_into().ok().and_then(Pid::from_raw);
    id.expect("processes have numbers above zero")
}

/// The processes that `ancestor` started, and those that they started (proc_pid_stat(5)).
fn descendants(ancestor: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name in brackets may have anything in it.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![ancestor]);
    while let Some(one) = next.pop() {
        let more = children.remove(&one).unwrap_or_default();
        found.extend(&more);
        next.extend(more);
    }
    found
}

/// What the files below `folder` take. What vanishes meanwhile takes nothing.
fn len(folder: &Path) -> u64 {
    let (mut sum, mut folders) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            sum = sum.saturating_add(found.len().max(MIN_ENTRY_LEN));
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    sum
}

fn whole(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MAX_SAID_LEN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than any of these programs takes.
    const LONG: Duration = Duration::from_secs(60);

    fn bounds() -> Bounds {
        Bounds {
            max_len: 1 << 20,
            patience: LONG,
            least_change: 1,
        }
    }

    fn shell(folder: &tempfile::TempDir, script: &str, bounds: &Bounds) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        run(&mut command, folder.path(), bounds).unwrap()
    }

    #[test]
    fn what_keeps_within_its_bounds_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let ended = shell(&folder, "echo one; echo two >&2; exit 3", &bounds());
        let Ended::Itself(said) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(said.status.code(), Some(3));
        assert_eq!((&*said.stdout, &*said.stderr), (&b"one\n"[..], &b"two\n"[..]));
    }

    #[test]
    fn what_brings_too_much_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        for script in [
            "while :; do head -c 100000 /dev/zero >>big; done",
            "i=0; while :; do : >empty$i; i=$((i+1)); done",
            "head -c 2000000 /dev/zero >all-at-once",
        ] {
            let ended = shell(&folder, script, &bounds());
            assert!(matches!(ended, Ended::TooLarge), "{script}: {ended:?}");
        }
        // In a folder of its own: what the others brought may be seen before it is gone.
        let folder = tempfile::tempdir().unwrap();
        let ended = shell(&folder, "exec yes", &bounds());
        assert!(matches!(ended, Ended::TooLoud), "{ended:?}");
    }

    #[test]
    fn what_brings_nothing_any_more_is_ended_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let impatient = Bounds {
            patience: Duration::from_secs(2),
            ..bounds()
        };
        // The id is there before the time runs out: it is progress itself.
        let script = "sleep 1000 & echo $! >child; wait";
        let ended = shell(&folder, script, &impatient);
        assert!(matches!(ended, Ended::Stuck), "{ended:?}");
        let child = fs::read_to_string(folder.path().join("child")).unwrap();
        // It was told to end; how soon it does, a busy machine decides.
        let deadline = Instant::now() + LONG;
        loop {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the child of what was ended goes on: {stat}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}
