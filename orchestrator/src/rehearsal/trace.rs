//! What bash says about the line that it runs (`set -x`), and what stand-ins say about how they were called. Pure.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::report::printable;

/// Between the parts of a line: the unit separator, which nobody types.
pub(super) const SEPARATOR: char = '\u{1f}';
/// What bash reads before every script (its variable `BASH_ENV`): `+`, time, file, line, command go to the pipe in [`PIPE`].
pub(super) const FOR_BASH: &str = "\
exec 199>>/run/gantry-rehearsal/trace
BASH_XTRACEFD=199
PS4=$'+\\037${EPOCHREALTIME:-}\\037${BASH_SOURCE:-}\\037${LINENO:-}\\037'
set -x
";
/// Where the pipe is.
pub(super) const PIPE: &str = "/run/gantry-rehearsal/trace";

/// Longest line that is kept, in bytes.
const MAX_LINE_LEN: usize = 4096;
/// Lines that are remembered: those that ran while a packet was under way.
const MAX_LINES: usize = 1024;
/// Longest name of a file, program or image that is shown, in characters: names of images with a digest have a few hundred.
const MAX_SHOWN: usize = 400;

/// A line of a script.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Line {
    /// The script as it was called.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// The program or builtin that it runs.
    pub program: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.file, self.line, self.program)
    }
}

/// How a stand-in was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StandInCall {
    /// What it stands in for.
    pub(super) program: String,
    /// Its arguments.
    pub(super) words: Vec<String>,
    /// The line that called it: the last one that was told before.
    pub(super) line: Option<Line>,
}

/// The lines that ran, by time.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The beginning of the next line.
    rest: Vec<u8>,
    /// Microseconds since the epoch, where bash can tell, and the line.
    lines: VecDeque<(Option<u64>, Line)>,
    /// Where no file is named: `bash -c`.
    script: String,
    /// Names of all scripts that ran.
    files: Vec<String>,
}

impl Trace {
    /// Of `script`.
    pub(super) fn of(script: &str) -> Self {
        Self {
            script: script.to_owned(),
            ..Self::default()
        }
    }

    /// Takes what came out of the pipe; gives the calls of stand-ins in it.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Vec<StandInCall> {
        let mut calls = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.rest.len() < MAX_LINE_LEN {
                    self.rest.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.rest);
            let line = String::from_utf8_lossy(&line);
            calls.extend(self.stand_in_call(&line));
            if let Some((time, line)) = self.line(&line) {
                if !self.files.contains(&line.file) && self.files.len() < MAX_LINES {
                    self.files.push(line.file.clone());
                }
                self.lines.push_back((time, line));
                if self.lines.len() > MAX_LINES {
                    self.lines.pop_front();
                }
            }
        }
        calls
    }

    /// The line that ran at `time`, in microseconds since the epoch.
    pub(super) fn at(&self, time: u64) -> Option<&Line> {
        let mut backwards = self.lines.iter().rev();
        let found = backwards.find(|(began, _)| began.is_none_or(|began| began <= time));
        found.map(|(_, line)| line)
    }

    /// The last line that ran.
    pub(super) fn last(&self) -> Option<&Line> {
        self.lines.back().map(|(_, line)| line)
    }

    /// Whether anything of the script called `name` ran.
    pub(super) fn has_run(&self, name: &str) -> bool {
        let is_it = |file: &String| file.rsplit('/').next() == Some(name);
        self.files.iter().any(is_it)
    }

    fn stand_in_call(&self, text: &str) -> Option<StandInCall> {
        let mut parts = text.strip_prefix('=')?.strip_prefix(SEPARATOR)?.split(SEPARATOR);
        Some(StandInCall {
            program: shown(parts.next()?),
            words: parts.map(str::to_owned).collect(),
            line: self.last().cloned(),
        })
    }

    fn line(&self, text: &str) -> Option<(Option<u64>, Line)> {
        let mut parts = text.splitn(5, SEPARATOR);
        let nested = parts.next()?;
        if nested.is_empty() || nested.bytes().any(|byte| byte != b'+') {
            return None;
        }
        let time = microseconds(parts.next()?);
        let file = Some(parts.next()?).filter(|file| !file.is_empty());
        let line = parts.next()?.parse().ok()?;
        let command = parts.next()?.trim_start();
        let program = command.split_whitespace().next().unwrap_or_default();
        let program = program.trim_matches(['\'', '"']);
        let program = program.rsplit('/').next().unwrap_or_default();
        // What is assigned may be a secret.
        let program = program.split('=').next().unwrap_or_default();
        let line = Line {
            file: shown(file.unwrap_or(&self.script)),
            line,
            program: shown(program),
        };
        Some((time, line))
    }
}

/// `SECONDS.MICROSECONDS`, with whatever stands for the point where bash runs.
fn microseconds(text: &str) -> Option<u64> {
    let (seconds, micros) = text.split_once(['.', ','])?;
    let (seconds, micros): (u64, u64) = (seconds.parse().ok()?, micros.parse().ok()?);
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}

/// `text` as a terminal can bear it, and not longer than it needs to be.
pub(super) fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(MAX_SHOWN).collect();
    printable(beginning.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_belongs_to_the_line_that_ran_when_it_left() {
        let mut trace = Trace::of("init.sh");
        trace.add(b"+\x1f1700000000.000010\x1finit.sh\x1f3\x1f/usr/bin/curl -fsSL https://a.example\n");
        trace.add(b"++\x1f1700000000.000500\x1fdocker.sh\x1f7\x1f'apt-get' update\n+\x1f170000");
        trace.add(b"0001.5\x1f\x1f1\x1fTOKEN=abc\n");
        let at = |micros: u64| trace.at(1_700_000_000_000_000 + micros).map(ToString::to_string);
        assert_eq!(at(1), None);
        assert_eq!(at(10).as_deref(), Some("init.sh:3 (curl)"));
        assert_eq!(at(400).as_deref(), Some("init.sh:3 (curl)"));
        assert_eq!(at(501).as_deref(), Some("docker.sh:7 (apt-get)"));
        assert_eq!(trace.last().unwrap().to_string(), "init.sh:1 (TOKEN)");
        assert!(trace.has_run("docker.sh") && !trace.has_run("init-kube.sh"));
    }

    #[test]
    fn what_is_no_line_of_bash_is_passed_over() {
        let mut trace = Trace::of("init.sh");
        for junk in [
            &b"\xff\xfe\n"[..],
            b"+\n",
            b"+\x1fa\x1fb\n",
            b"second line of a word\n",
        ] {
            assert!(trace.add(junk).is_empty());
        }
        trace.add(&vec![b'x'; 3 * MAX_LINE_LEN]);
        assert!(trace.rest.len() <= MAX_LINE_LEN);
        assert_eq!(trace.last(), None);
        // Bash before version 5 has no time.
        trace.add(b"\n+\x1f\x1finit.sh\x1f2\x1fcurl a\n");
        assert_eq!(trace.at(0).unwrap().line, 2);
    }

    #[test]
    fn stand_ins_say_how_they_were_called() {
        let mut trace = Trace::of("init.sh");
        let calls = trace.add(
            b"+\x1f\x1finit.sh\x1f2\x1fdocker pull 'a b'\n=\x1fdocker\x1fpull\x1fa b\n+\x1f\x1finit.sh\x1f3\x1ftrue\n",
        );
        assert_eq!(calls[0].program, "docker");
        assert_eq!(calls[0].line.as_ref().map(|line| line.line), Some(2));
        assert_eq!(calls[0].words, ["pull", "a b"]);
    }
}
