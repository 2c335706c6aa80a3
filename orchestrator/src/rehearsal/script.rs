//! This module owns one script from its start to its end, and what it leaves behind.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::trace::{StandInCall, Trace, shown};
use super::watch::Watch;
use super::{Doubt, RehearsalSpec, ScriptCall, What, process, stand_ins, trace};
use crate::confinement::Membership;
use crate::confinement::bounds::{Bounds, Guard};
use crate::report::printable;

/// What a script leaves running has this long to end by itself.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);
/// How often is looked whether a script has ended.
const TICK_MS: u16 = 20;
/// Lines of output that are shown of a script that failed.
const MAX_LAST_LINES: usize = 3;
/// Longest of them, in bytes.
const MAX_OUTPUT_LINE: usize = 400;
/// Bytes that are read at once.
const READ_LEN: usize = 16 << 10;
/// Reads in a row before something else is looked at.
const MAX_READS: usize = 64;
/// Names of processes that are shown.
const MAX_NAMES_SHOWN: usize = 5;

/// How a script ended, and what ran of it.
pub(super) struct ScriptEnd {
    pub(super) succeeded: bool,
    pub(super) doubts: Vec<Doubt>,
    pub(super) trace: Trace,
}

/// What all scripts have in common.
pub(super) struct Stage {
    /// That traces come by: a script may remove it.
    pipe: File,
    bounds: Bounds,
    guard: Guard,
    membership: Option<Membership>,
}

impl Stage {
    /// On the host of `spec`, which this process has entered. The kernel holds scripts to their bounds by `membership`.
    ///
    /// # Errors
    /// When the pipe cannot be opened.
    pub(super) fn new(spec: &RehearsalSpec, membership: Option<Membership>) -> io::Result<Self> {
        Ok(Self {
            // Open for both ways, so that it never ends.
            pipe: OpenOptions::new().read(true).write(true).open(trace::PIPE)?,
            bounds: spec.bounds,
            // All that scripts write to is below one folder of the store.
            guard: Guard::new(spec.bounds, "/"),
            membership,
        })
    }
}

/// Runs `call`, looks at what it does until it and all that it started have ended, or their time is over, or they take too much.
///
/// # Errors
/// When it cannot be started or looked at.
pub(super) fn run(
    spec: &RehearsalSpec,
    call: &ScriptCall,
    stage: &mut Stage,
    watch: &mut Watch,
) -> io::Result<ScriptEnd> {
    let mut running = match &stage.membership {
        Some(membership) => membership.start_in(|| Running::start(spec, call, &stage.pipe))?,
        None => Running::start(spec, call, &stage.pipe)?,
    };
    let limit = Duration::from_secs(spec.time_limit_s.into());
    let (began, mut ended) = (Instant::now(), None);
    let mut doubts = Vec::new();
    loop {
        running.look(watch)?;
        // Also those are taken notice of that have lost their parent.
        let status = process::ended(running.process);
        // Another process may get its number later.
        if let Some(status) = status.filter(|_| ended.is_none()) {
            ended = Some((status, Instant::now()));
            continue;
        }
        if let Some(excess) = stage.guard.excess()? {
            let at = running.at();
            doubts.push(running.doubt(format!("it was ended{at}, for {excess}")));
            break;
        }
        match ended {
            None if began.elapsed() > limit => {
                let at = running.at();
                let reason = format!(
                    "it did not end within {} s{at}; what it would have done after that is not known",
                    limit.as_secs()
                );
                doubts.push(running.doubt(reason));
                break;
            }
            Some(_) if !process::is_any_left() => break,
            Some((_, when)) if when.elapsed() > SETTLE_LIMIT => {
                let left = process::names_of_others();
                let names: BTreeSet<String> = left.into_iter().take(MAX_NAMES_SHOWN).collect();
                let names: Vec<String> = names.into_iter().collect();
                let reason = format!(
                    "it left {} running, which was ended; what that does later is not known",
                    names.join(", ")
                );
                doubts.push(running.doubt(reason));
                break;
            }
            _ => {}
        }
    }
    process::end_others();
    running.look(watch)?;
    let lost = watch.finish(&call.name, &mut running.trace)?;
    if lost > 0 {
        let reason = format!("{lost} of its packets were not seen: whom else it reaches is not known");
        doubts.push(running.doubt(reason));
    }
    if let Some(membership) = &mut stage.membership
        && let Some(excess) = membership.refused(stage.bounds)?
    {
        doubts.push(running.doubt(format!(
            "{excess}, which the kernel refused; what it would have done with that is not known"
        )));
    }
    let succeeded = matches!(ended, Some((0, _)));
    if let Some((status, _)) = ended.filter(|(status, _)| *status != 0) {
        let how = if status < 0 {
            format!("was ended by signal {}", -status)
        } else {
            format!("ended with status {status}")
        };
        let said = running.said();
        let at = running.at();
        doubts.insert(
            0,
            running.doubt(format!(
                "it {how}{at}; what it would have done after that is not known{said}"
            )),
        );
    }
    let clients = std::mem::take(&mut running.clients);
    for client in clients {
        let reason =
            format!("it asks {client}, and no container runtime runs here; the answers were made up");
        doubts.push(running.doubt(reason));
    }
    Ok(ScriptEnd {
        succeeded,
        doubts,
        trace: running.trace,
    })
}

struct Running {
    script: String,
    process: u32,
    output: io::PipeReader,
    /// Whether anybody may still write to it.
    output_open: bool,
    pipe: File,
    trace: Trace,
    last: VecDeque<String>,
    line: Vec<u8>,
    /// Programs that asked a container runtime.
    clients: BTreeSet<String>,
}

impl Running {
    fn start(spec: &RehearsalSpec, call: &ScriptCall, pipe: &File) -> io::Result<Self> {
        let (output, writer) = io::pipe()?;
        let child = Command::new("/bin/bash")
            .args(&call.words)
            .current_dir(&call.folder)
            .env_clear()
            .envs(&spec.env)
            .envs(&call.env)
            .env("BASH_ENV", super::BASH_ENV)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", call.name)))?;
        Ok(Self {
            script: call.name.clone(),
            process: child.id(),
            output,
            output_open: true,
            pipe: pipe.try_clone()?,
            trace: Trace::of(&call.name),
            last: VecDeque::new(),
            line: Vec::new(),
            clients: BTreeSet::new(),
        })
    }

    /// Waits a moment for anything to happen, and looks at it.
    fn look(&mut self, watch: &mut Watch) -> io::Result<()> {
        let own = std::iter::once(self.pipe.as_fd()).chain(self.output_open.then(|| self.output.as_fd()));
        let mut handles: Vec<PollFd<'_>> = watch
            .handles()
            .into_iter()
            .chain(own)
            .map(|handle| PollFd::new(handle, PollFlags::POLLIN))
            .collect();
        match poll(&mut handles, PollTimeout::from(TICK_MS)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut calls = Vec::new();
        let pipe = &mut self.pipe;
        watch.look(&self.script, &mut self.trace, &mut |trace| {
            for _ in 0..MAX_READS {
                if !is_readable(&*pipe)? {
                    break;
                }
                let mut bytes = [0; READ_LEN];
                let len = pipe.read(&mut bytes)?;
                calls.extend(trace.add(&bytes[..len]));
            }
            Ok(())
        })?;
        for call in calls {
            self.note(call, watch);
        }
        self.read_output()
    }

    fn note(&mut self, call: StandInCall, watch: &mut Watch) {
        if !stand_ins::is_client(&call.program) {
            return;
        }
        if let Some(image) = stand_ins::pulled(&call.words)
            && !watch.is_of_cluster(image)
        {
            watch.found(&self.script, What::Pulls(shown(image)), call.line.as_ref());
        }
        self.clients.insert(call.program);
    }

    fn read_output(&mut self) -> io::Result<()> {
        for _ in 0..MAX_READS {
            if !self.output_open || !is_readable(&self.output)? {
                break;
            }
            let mut bytes = [0; READ_LEN];
            let len = self.output.read(&mut bytes)?;
            self.output_open = len > 0;
            for byte in &bytes[..len] {
                match byte {
                    b'\n' | b'\r' => self.end_line(),
                    _ if self.line.len() < MAX_OUTPUT_LINE => self.line.push(*byte),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = printable(&line);
        if line.trim().is_empty() {
            return;
        }
        self.last.push_back(line);
        if self.last.len() > MAX_LAST_LINES {
            self.last.pop_front();
        }
    }

    /// Where it was.
    fn at(&self) -> String {
        self.trace
            .last()
            .map_or(String::new(), |line| format!(" at {line}"))
    }

    /// What it said last.
    fn said(&mut self) -> String {
        self.end_line();
        let lines: Vec<&str> = self.last.iter().map(String::as_str).collect();
        if lines.is_empty() {
            String::new()
        } else {
            format!("; it said last: {}", lines.join(" | "))
        }
    }

    fn doubt(&self, reason: String) -> Doubt {
        Doubt::new(&self.script, &reason)
    }
}

/// Whether reading would not wait.
fn is_readable(handle: &impl std::os::fd::AsFd) -> io::Result<bool> {
    let mut handles = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    match poll(&mut handles, PollTimeout::ZERO) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = handles[0].revents().unwrap_or(PollFlags::empty());
    Ok(ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP))
}
