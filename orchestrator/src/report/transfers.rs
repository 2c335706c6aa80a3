//! What people see while blobs travel to or from a registry: lines that move on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gantry_model::Digest;
use gantry_registry_client::{Event, How};
use gantry_store::LoadEvent;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::bytes;

/// Shows transfers on standard error.
pub struct Transfers {
    verb: &'static str,
    quiet: bool,
    moving: bool,
    lines: MultiProgress,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bars: BTreeMap<Digest, ProgressBar>,
    moved: (usize, u64),
    present: usize,
    mounted: usize,
}

impl Transfers {
    /// `verb` says what happens to a blob: `pulled`, `pushed`. When `quiet`, only what goes wrong is shown.
    #[must_use]
    pub fn new(verb: &'static str, quiet: bool) -> Self {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            verb,
            quiet,
            moving: terminal && !quiet,
            lines: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)),
            started: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Shows what happened.
    pub fn event(&self, event: Event) {
        match event {
            Event::Planned { .. } => {}
            Event::Moved { digest, at, size } => {
                if self.moving {
                    self.bar(digest, size).set_position(at);
                }
            }
            Event::Done { digest, size, how } => self.done(digest, size, how),
            Event::Waiting { reason, wait, .. } => {
                let seconds = wait.as_secs_f64();
                self.say(&format!("{reason}; trying again in {seconds:.1} s"));
            }
            Event::Passed { reason } => self.say(&format!("{reason}; asking the next one")),
        }
    }

    /// Shows that a layer is given its chunked form.
    pub fn chunking(&self, event: LoadEvent) {
        let LoadEvent::ChunkingLayer { layer, size } = event;
        if !self.quiet {
            self.say(&format!(
                "layer {}, {}: cutting it into chunks",
                layer.short(),
                bytes(size)
            ));
        }
    }

    /// Clears what moves; when all is `done`, says what it came to.
    pub fn end(&self, done: bool) {
        for (_, bar) in std::mem::take(&mut self.state().bars) {
            bar.finish_and_clear();
        }
        if self.quiet || !done {
            return;
        }
        let state = self.state();
        let (count, len) = state.moved;
        let mut text = match count {
            0 => "nothing had to travel".to_owned(),
            1 => format!("1 blob {}, {}", self.verb, bytes(len)),
            _ => format!("{count} blobs {}, {}", self.verb, bytes(len)),
        };
        if count > 0 {
            let _ = write!(text, " in {:.1} s", self.started.elapsed().as_secs_f64());
        }
        if state.mounted > 0 {
            let _ = write!(
                text,
                "; {} from another repository of the registry",
                state.mounted
            );
        }
        if state.present > 0 {
            let _ = write!(text, "; {} there before", state.present);
        }
        drop(state);
        anstream::eprintln!("{text}");
    }

    fn done(&self, digest: Digest, size: u64, how: How) {
        let bar = {
            let mut state = self.state();
            match how {
                How::Present => state.present += 1,
                How::Mounted => state.mounted += 1,
                How::Moved => state.moved = (state.moved.0 + 1, state.moved.1 + size),
            }
            state.bars.remove(&digest)
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.lines.remove(&bar);
        }
        if how == How::Moved && !self.quiet && !self.moving {
            self.say(&format!(
                "blob {}, {}: {}",
                digest.short(),
                bytes(size),
                self.verb
            ));
        }
    }

    fn bar(&self, digest: Digest, size: u64) -> ProgressBar {
        let mut state = self.state();
        let bar = state.bars.entry(digest).or_insert_with(|| {
            let bar = self.lines.add(ProgressBar::new(size));
            let columns = "  {prefix} {bar:24.green/dim} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {elapsed:>4}";
            let style = ProgressStyle::with_template(columns).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━╸─"));
            bar.set_prefix(digest.short());
            bar
        });
        bar.clone()
    }

    fn say(&self, line: &str) {
        if self.moving {
            let _ = self.lines.println(line);
        } else {
            anstream::eprintln!("{line}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
