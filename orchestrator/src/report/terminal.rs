//! Lines that move: one per host with what it does now, how far it is and for how long.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plain::{finished_text, line_of_all};
use super::{Report, printable};
use crate::execute::{EventKind, RunEvent};
use crate::plan::Plan;

/// Hosts with a moving line of their own; the others are counted by one line for all.
const MAX_LINES: usize = 30;
/// With more hosts than this, a step that went well leaves no line behind.
const MAX_HOSTS_WITH_HISTORY: usize = 12;
const TICK: Duration = Duration::from_millis(100);

/// Moving lines on standard error.
pub struct Terminal {
    lines: MultiProgress,
    hosts: BTreeMap<IpAddr, Line>,
    width: usize,
    keeps_history: bool,
    verbose: bool,
}

struct Line {
    bar: ProgressBar,
    started: Instant,
    transfer: bool,
}

impl Terminal {
    /// Lines for the hosts of `plan`; with `verbose` what scripts write, too.
    #[must_use]
    pub fn new(plan: &Plan, verbose: bool) -> Self {
        let width = plan
            .hosts
            .iter()
            .map(|host| host.address.to_string().len())
            .max()
            .unwrap_or(0);
        let keeps_history = plan.hosts.len() <= MAX_HOSTS_WITH_HISTORY;
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self {
            lines,
            hosts: BTreeMap::new(),
            width,
            keeps_history,
            verbose,
        }
    }

    fn start(&mut self, host: IpAddr, title: &str) {
        if self.hosts.contains_key(&host) {
            return;
        }
        let bar = if self.hosts.len() < MAX_LINES {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        // Sorted like the hosts, so that a line keeps its place.
        let place = self.hosts.range(..host).count();
        let bar = if bar.is_hidden() {
            bar
        } else {
            self.lines.insert(place.min(MAX_LINES), bar)
        };
        bar.set_style(style("  {prefix} {spinner:.cyan} {elapsed:>4} {wide_msg:.dim}"));
        bar.set_prefix(format!("{host:<width$}  {title:<16}", width = self.width));
        bar.enable_steady_tick(TICK);
        self.hosts.insert(
            host,
            Line {
                bar,
                started: Instant::now(),
                transfer: false,
            },
        );
    }

    fn finish(&mut self, host: IpAddr) -> Option<Duration> {
        let line = self.hosts.remove(&host)?;
        line.bar.finish_and_clear();
        self.lines.remove(&line.bar);
        Some(line.started.elapsed())
    }

    fn say(&self, line: impl AsRef<str>) -> anyhow::Result<()> {
        // Colours are wanted where anstream would leave them, too.
        let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
        let line = line.as_ref();
        if colours {
            self.lines.println(line)?;
        } else {
            self.lines
                .println(anstream::adapter::strip_str(line).to_string())?;
        }
        Ok(())
    }
}

impl Report for Terminal {
    fn event(&mut self, event: &RunEvent) -> anyhow::Result<()> {
        let Some((host, _, title)) = &event.at else {
            if let Some(line) = line_of_all(&event.kind) {
                self.say(line)?;
            }
            return Ok(());
        };
        match &event.kind {
            EventKind::Started => self.start(*host, title),
            EventKind::Progress(progress) => {
                self.start(*host, title);
                let Some(line) = self.hosts.get_mut(host) else {
                    return Ok(());
                };
                if !line.transfer {
                    line.transfer = true;
                    let columns = "  {prefix} {bar:24.green/dim} {decimal_bytes:>10} of {decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {elapsed:>4} {msg:.dim}";
                    line.bar.set_style(style(columns));
                }
                line.bar.set_length(progress.total);
                line.bar.set_position(progress.written);
            }
            EventKind::Output { line, .. } => {
                let text = printable(line);
                if self.verbose {
                    self.say(format!("  {host} {title} | {text}"))?;
                }
                if let Some(line) = self.hosts.get(host) {
                    line.bar.set_message(text);
                }
            }
            EventKind::Waiting { reason, .. } => {
                self.start(*host, title);
                if let Some(line) = self.hosts.get(host) {
                    line.bar.set_message(format!("waiting: {reason}"));
                }
            }
            EventKind::Finished(outcome) => {
                let elapsed = self.finish(*host);
                if self.keeps_history || !outcome.succeeded() {
                    self.say(self.finished_line(
                        *host,
                        title,
                        outcome.succeeded(),
                        &finished_text(outcome, elapsed),
                    ))?;
                }
            }
            EventKind::GaveUp(reason) => {
                self.finish(*host);
                self.say(self.finished_line(*host, title, false, reason))?;
            }
            EventKind::AlreadyDone => drop(self.finish(*host)),
            EventKind::WaveStarted { .. } | EventKind::ReadingLayer { .. } => {}
        }
        Ok(())
    }

    fn end(&mut self) {
        for (_, line) in std::mem::take(&mut self.hosts) {
            line.bar.finish_and_clear();
        }
    }
}

impl Terminal {
    fn finished_line(&self, host: IpAddr, title: &str, well: bool, text: &str) -> String {
        let (sign, colour) = if well {
            ('✓', anstyle::AnsiColor::Green)
        } else {
            ('✗', anstyle::AnsiColor::Red)
        };
        let style = colour.on_default();
        format!(
            "  {style}{sign}{style:#} {host:<width$}  {title:<16} {text}",
            width = self.width
        )
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}
