//! One line per thing that happened.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use gantry_model::StepOutcome;
use gantry_protocol::TransferProgress;

use super::{Report, printable};
use crate::execute::{EventKind, RunEvent};
use crate::output::bytes;

/// Time between two lines about one transfer.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Lines on standard error.
pub struct Plain {
    verbose: bool,
    started: HashMap<IpAddr, Instant>,
    said: HashMap<IpAddr, Instant>,
}

impl Plain {
    /// Lines; with `verbose` what scripts write, too.
    #[must_use]
    pub fn new(verbose: bool) -> Self {
        Self {
            verbose,
            started: HashMap::new(),
            said: HashMap::new(),
        }
    }
}

impl Report for Plain {
    fn event(&mut self, event: &RunEvent) -> anyhow::Result<()> {
        let Some((host, _, title)) = &event.at else {
            if let Some(line) = line_of_all(&event.kind) {
                anstream::eprintln!("{line}");
            }
            return Ok(());
        };
        let line = match &event.kind {
            EventKind::Started => {
                self.started.entry(*host).or_insert_with(Instant::now);
                self.said.insert(*host, Instant::now());
                if !takes_time(title) {
                    return Ok(());
                }
                "started".into()
            }
            EventKind::Progress(progress) => {
                let due = self
                    .said
                    .get(host)
                    .is_none_or(|said| said.elapsed() >= PROGRESS_EVERY);
                if !due {
                    return Ok(());
                }
                self.said.insert(*host, Instant::now());
                progress_text(progress)
            }
            EventKind::Output { line, .. } if self.verbose => format!("| {}", printable(line)),
            EventKind::Output { .. }
            | EventKind::AlreadyDone
            | EventKind::WaveStarted { .. }
            | EventKind::ReadingLayer { .. } => {
                return Ok(());
            }
            EventKind::Waiting { reason, .. } => format!("waiting: {reason}"),
            EventKind::Finished(outcome) => {
                let elapsed = self.started.remove(host).map(|started| started.elapsed());
                finished_text(outcome, elapsed)
            }
            EventKind::GaveUp(reason) => {
                self.started.remove(host);
                format!("failed: {reason}")
            }
        };
        anstream::eprintln!("{host} {title}: {line}");
        Ok(())
    }
}

/// Whether it is worth a line that a step starts: the others end at once.
fn takes_time(title: &str) -> bool {
    title == "stage" || title.ends_with(".sh")
}

/// A time for people: `12 ms`, `3.4 s`, `2 min 5 s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// The line about something that concerns no one step.
pub(super) fn line_of_all(kind: &EventKind) -> Option<String> {
    match kind {
        EventKind::WaveStarted { title, hosts } => Some(wave_line(title, *hosts)),
        EventKind::ReadingLayer {
            layer,
            number,
            of,
            bytes: size,
        } => Some(format!(
            "Is this machine's store damaged? Reading layer {} of it, {number} of {of}, {}",
            layer.short(),
            bytes(*size)
        )),
        _ => None,
    }
}

fn wave_line(title: &str, hosts: usize) -> String {
    let bold = anstyle::Style::new().bold();
    let hosts = if hosts == 1 {
        "1 host".into()
    } else {
        format!("{hosts} hosts")
    };
    format!("{bold}{title}{bold:#} on {hosts}")
}

pub(super) fn finished_text(outcome: &StepOutcome, elapsed: Option<Duration>) -> String {
    let time = elapsed
        .map(|elapsed| format!(" in {}", duration(elapsed)))
        .unwrap_or_default();
    if outcome.succeeded() {
        format!("done{time}")
    } else {
        format!("failed{time}: {outcome}")
    }
}

pub(super) fn progress_text(progress: &TransferProgress) -> String {
    let mut text = format!("{} of {} written", bytes(progress.written), bytes(progress.total));
    if progress.reused > 0 {
        text.push_str(&format!(", {} of it were there already", bytes(progress.reused)));
    }
    text
}
