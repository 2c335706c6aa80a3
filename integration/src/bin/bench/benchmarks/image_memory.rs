//! What `gantry` takes of the operator's memory for images of 256 MiB and 1 GiB: it must not depend on their size.

use anyhow::{Context as _, Result};
use gantry_integration::image_memory::{Content, Peak, peaks, peaks_of_gzip};
use gantry_integration::registry::{Guard, Registry};
use gantry_integration::{Options, Testbed};

use crate::report::{Bound, Report};
use crate::settings::Settings;

const MEGABYTE: f64 = 1e6;

/// Sizes of what is in the images, in MiB.
const SIZES: [u64; 2] = [256, 1024];
/// Most that each command may have, in megabytes: its program, and what it reads, compresses and writes at a time.
const LIMITS: [(&str, f64); 10] = [
    ("build", 64.0),
    ("push", 40.0),
    ("pull", 40.0),
    ("save", 40.0),
    ("load", 40.0),
    ("unpack", 48.0),
    ("save for docker", 40.0),
    ("load of docker's", 64.0),
    ("load of gzip", 64.0),
    ("pull of gzip", 64.0),
];
/// How much more a command may have for the larger image, in megabytes. What it knows of every file, its row in the layer's table
/// of contents, grows with their number; a layer may have no more than a named number of them.
const GROWTHS: [(Content, &str, f64); 2] = [
    (Content::OneFile, "one file", 8.0),
    (Content::ManyFiles, "files of 64 KiB", 32.0),
];

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let bed = Testbed::with(&Options {
        hosts: 0,
        ..Options::default()
    })?;
    // On disk: in memory there would be no room for it on a small machine.
    let folder = bed.operator().desk().join("memory");
    let registry = Registry::start(&bed.operator().desk().join("registry"), &Guard::default())?;
    report.note(
        "Peaks are VmHWM of the command's process. Incompressible content; each command works on disk.",
    );
    report.row(["what", "256 MiB, MB", "1 GiB, MB", "growth, MB"]);
    let mut most: Vec<(&str, f64)> = Vec::new();
    for (content, name, limit) in GROWTHS {
        let mut measured: Vec<Vec<Peak>> = Vec::new();
        for size in SIZES.map(|size| settings.scaled(size << 20)) {
            let mut all = peaks(bed.operator(), &folder, &registry, content, size)?;
            all.extend(peaks_of_gzip(bed.operator(), &folder, &registry, content, size)?);
            measured.push(all);
        }
        let mut growth = 0.0_f64;
        for (small, large) in measured[0].iter().zip(&measured[1]) {
            let [before, after] = [small, large].map(|peak| peak.bytes as f64 / MEGABYTE);
            growth = growth.max(after - before);
            most.push((small.command, after));
            let cells = [before, after, after - before].map(|figure| format!("{figure:.1}"));
            report.row([format!("{}, {name}", small.command)].into_iter().chain(cells));
        }
        report.goal(
            format!("growth from 256 MiB to 1 GiB, {name}"),
            growth,
            Bound::AtMost(limit),
            " MB",
        );
    }
    for (command, limit) in LIMITS {
        let of_command = most.iter().filter(|(name, _)| *name == command);
        let peak = of_command.map(|(_, peak)| *peak).reduce(f64::max);
        let peak = peak.with_context(|| format!("{command} was not measured"))?;
        report.goal(
            format!("memory of gantry, {command}"),
            peak,
            Bound::AtMost(limit),
            " MB",
        );
    }
    Ok(())
}
