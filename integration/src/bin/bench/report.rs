//! What a benchmark prints: its figures, and which goals they meet.

use std::fmt::Write as _;

use crate::measure::Series;

/// Bytes in a megabyte, as rates are told.
const MEGABYTE: f64 = 1e6;

/// The figures and goals of one benchmark.
#[derive(Debug)]
pub(crate) struct Report {
    title: String,
    notes: Vec<String>,
    table: Vec<Vec<String>>,
    goals: Vec<Goal>,
}

/// A figure with the bound it has to keep.
#[derive(Debug)]
struct Goal {
    what: String,
    value: f64,
    bound: Bound,
    unit: &'static str,
}

/// Which side of a number is good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl Report {
    pub(crate) fn new(name: &str, about: &str) -> Self {
        Self {
            title: format!("{name}: {about}"),
            notes: Vec::new(),
            table: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Adds a sentence on how the figures came about.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a row of the table; the first one added is its head.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.push(cells.into_iter().map(Into::into).collect());
    }

    /// Adds the table of contenders that each handled `bytes` bytes, Gantry first.
    pub(crate) fn rates(&mut self, bytes: u64, ours: &Series, peers: &[Series]) {
        let gigabytes = bytes as f64 / MEGABYTE / 1000.0;
        self.row([
            "what",
            "s",
            "MB/s",
            "CPU s/GB",
            "gantry's speed",
            "gantry's CPU",
            "slowest/fastest round",
        ]);
        for series in std::iter::once(ours).chain(peers) {
            self.row([
                series.name.clone(),
                format!("{:.2}", series.seconds()),
                format!("{:.0}", gigabytes * 1000.0 / series.seconds()),
                format!("{:.2}", series.cpu_seconds() / gigabytes),
                format!("{:.2}x", series.seconds() / ours.seconds()),
                format!("{:.2}x", ours.cpu_seconds() / series.cpu_seconds()),
                format!("{:.2}", series.spread()),
            ]);
        }
    }

    /// Adds a goal.
    pub(crate) fn goal(&mut self, what: impl Into<String>, value: f64, bound: Bound, unit: &'static str) {
        self.goals.push(Goal {
            what: what.into(),
            value,
            bound,
            unit,
        });
    }

    /// How many goals are missed.
    pub(crate) fn missed(&self) -> usize {
        self.goals
            .iter()
            .filter(|goal| !goal.bound.holds(goal.value))
            .count()
    }

    /// All of it as text; goals are judged only if they `count`.
    pub(crate) fn text(&self, count: bool) -> String {
        let mut text = format!("\n## {}\n\n", self.title);
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        if !self.notes.is_empty() && !self.table.is_empty() {
            text.push('\n');
        }
        text.push_str(&aligned(&self.table));
        if !self.goals.is_empty() {
            let head = ["goal", "wanted", "got", ""].map(str::to_owned).to_vec();
            let rows = self.goals.iter().map(|goal| goal.cells(count));
            text.push('\n');
            text.push_str(&aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
        }
        text
    }
}

impl Goal {
    fn cells(&self, counts: bool) -> Vec<String> {
        let wanted = match self.bound {
            Bound::AtLeast(bound) => format!(">= {bound}{}", self.unit),
            Bound::AtMost(bound) => format!("<= {bound}{}", self.unit),
        };
        let verdict = match (counts, self.bound.holds(self.value)) {
            (false, _) => "not judged",
            (true, true) => "ok",
            (true, false) => "MISS",
        };
        vec![
            self.what.clone(),
            wanted,
            format!("{:.2}{}", self.value, self.unit),
            verdict.to_owned(),
        ]
    }
}

/// Our speed divided by the best speed of the peers.
pub(crate) fn speed_ratio(ours: &Series, peers: &[Series]) -> f64 {
    peers.iter().map(Series::seconds).fold(f64::INFINITY, f64::min) / ours.seconds()
}

/// Our CPU time divided by the least of the peers.
pub(crate) fn cpu_ratio(ours: &Series, peers: &[Series]) -> f64 {
    ours.cpu_seconds()
        / peers
            .iter()
            .map(Series::cpu_seconds)
            .fold(f64::INFINITY, f64::min)
}

/// A Markdown table with columns of equal width, so that it reads well as plain text too.
fn aligned(rows: &[Vec<String>]) -> String {
    let Some(head) = rows.first() else {
        return String::new();
    };
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0).max(3))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            text.extend(widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_counted_and_named() {
        let mut report = Report::new("demo", "a demonstration");
        report.goal("speed", 1.9, Bound::AtLeast(1.8), "x");
        report.goal("size", 17.0, Bound::AtMost(16.0), " MB");
        assert_eq!(report.missed(), 1);
        assert!(
            report
                .text(true)
                .contains("| size  | <= 16 MB | 17.00 MB | MISS |"),
            "{}",
            report.text(true)
        );
        assert!(report.text(false).contains("not judged"));
    }
}
