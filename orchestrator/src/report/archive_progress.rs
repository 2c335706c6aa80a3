//! What people see while an archive is written or read: a line that moves on a terminal, and what it came to.

use std::io::{IsTerminal as _, Read};
use std::time::Instant;

use gantry_store::{LoadEvent, SaveEvent};
use indicatif::{ProgressBar, ProgressBarIter, ProgressDrawTarget, ProgressStyle};

use crate::output::bytes;

/// Shows on standard error how far an archive is.
pub struct ArchiveProgress {
    quiet: bool,
    bar: ProgressBar,
    started: Instant,
}

impl ArchiveProgress {
    /// Nothing was written or read yet. When `quiet`, nothing is shown.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let target = if terminal && !quiet {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        style(
            &bar,
            "{decimal_bytes:>10} {decimal_bytes_per_sec:>12} {elapsed:>4}",
        );
        Self {
            quiet,
            bar,
            started: Instant::now(),
        }
    }

    /// So many bytes there will be.
    pub fn total(&self, total: u64) {
        self.bar.set_length(total);
        style(
            &self.bar,
            "{bar:24.green/dim} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {elapsed:>4}",
        );
    }

    /// Counts what is read through it.
    pub fn reading<R: Read>(&self, reader: R) -> ProgressBarIter<R> {
        self.bar.wrap_read(reader)
    }

    /// Shows how far writing is.
    pub fn saving(&self, event: SaveEvent) {
        match event {
            SaveEvent::Measuring { layer, size } => {
                self.say(&format!(
                    "layer {}, {}: decompressing it",
                    layer.short(),
                    bytes(size)
                ));
            }
            SaveEvent::Planned { total } => self.total(total),
            SaveEvent::Written { len } => self.bar.inc(len),
        }
    }

    /// Shows what takes long in loading.
    pub fn loading(&self, event: LoadEvent) {
        let LoadEvent::ChunkingLayer { layer, size } = event;
        let text = format!("layer {}, {}: cutting it into chunks", layer.short(), bytes(size));
        self.say(&text);
    }

    /// Takes away what moves, and says what it came to: `done` many bytes, and how long it took.
    pub fn end(&self, done: &str) {
        self.bar.finish_and_clear();
        if !self.quiet {
            let (len, seconds) = (bytes(self.bar.position()), self.started.elapsed().as_secs_f64());
            anstream::eprintln!("{done}, {len} in {seconds:.1} s");
        }
    }

    /// Shows a line, above what moves.
    pub fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            if !self.quiet {
                anstream::eprintln!("{line}");
            }
        } else {
            self.bar.println(line);
        }
    }
}

impl Drop for ArchiveProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(bar: &ProgressBar, columns: &str) {
    let style = ProgressStyle::with_template(&format!("  {columns}"));
    bar.set_style(
        style
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─"),
    );
}
