//! What the agent takes of its host: disk for itself, memory at rest and at work.

use anyhow::Result;
use gantry_integration::Testbed;

use crate::contender::Contender as _;
use crate::content;
use crate::gantry_staging::{GantryStaging, forget_everything_staged};
use crate::report::{Bound, Report};
use crate::settings::Settings;

const MEGABYTE: f64 = 1e6;

/// Sizes of the layers staged, in GiB. Memory must not depend on them.
const LAYERS: [u64; 2] = [1, 3];

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let bed = Testbed::enrolled(1)?;
    let (operator, host) = (bed.operator(), bed.host(1));
    let program = host.must("stat --dereference --format=%s \"$(command -v gantry-agent)\"")?;
    let program = program.trim().parse::<f64>()? / MEGABYTE;
    report.note("Incompressible layers over QUIC at MTU 1500. Peaks are VmHWM of the agent's process, which starts anew");
    report.note("for every layer; idle is VmRSS once it has started and again after its first conversation.");
    report.row(["what", "idle MB", "peak MB", "above idle MB", "afterwards MB"]);

    let (mut idle_most, mut above_most) = (0.0_f64, 0.0_f64);
    for gibibytes in LAYERS {
        let tree = operator.desk().join("tree");
        gantry_integration::cache::remove_tree(&tree)?;
        content::write_noise(&tree.join("file"), settings.scaled(gibibytes << 30), gibibytes)?;
        content::write_init_script(&tree)?;
        let mut staging = GantryStaging::of_tree(operator, host, &tree)?;
        forget_everything_staged(host)?;
        let fresh = host.agent_memory()?;
        operator.must("agents")?;
        let idle = host.agent_memory()?.max(fresh) as f64 / MEGABYTE;
        staging.run()?;
        let peak = host.agent_peak_memory()? as f64 / MEGABYTE;
        let after = host.agent_memory()? as f64 / MEGABYTE;
        let cells = [idle, peak, peak - idle, after].map(|figure| format!("{figure:.1}"));
        report.row([format!("layer of {gibibytes} GiB")].into_iter().chain(cells));
        (idle_most, above_most) = (idle_most.max(idle), above_most.max(peak - idle));
    }
    report.goal("gantry-agent, the program", program, Bound::AtMost(15.0), " MB");
    report.goal("memory of the idle agent", idle_most, Bound::AtMost(16.0), " MB");
    report.goal(
        "memory above idle while staging",
        above_most,
        Bound::AtMost(96.0),
        " MB",
    );
    Ok(())
}
