//! Staging to one host beside scp and rsync: verified content in its final place against plain copies.

use std::path::Path;

use anyhow::Result;

use crate::contender::Contender;
use crate::gantry_staging::GantryStaging;
use crate::measure::{Meter, compare};
use crate::report::{Bound, Report, cpu_ratio, speed_ratio};
use crate::settings::Settings;
use crate::ssh_peer::{SshCopy, Tool};
use crate::stage_site::{PEERS_FOLDER, StageSite};
use crate::{content, kubernetes_tree};

/// Bytes of the one large file.
const FILE_SIZE: u64 = 1 << 30;

/// A tree like those people stage.
pub(crate) fn kubernetes_tree(settings: &Settings, report: &mut Report) -> Result<()> {
    stage(settings, report, 1500, 1.8, |tree| {
        kubernetes_tree::write(tree, settings)
    })
}

/// The worst case for Gantry: nothing to compress, small packets.
pub(crate) fn incompressible_file(settings: &Settings, report: &mut Report) -> Result<()> {
    stage(settings, report, 1500, 1.2, |tree| large_file(tree, settings))
}

/// The same where the network carries large packets.
pub(crate) fn incompressible_file_in_jumbo_frames(settings: &Settings, report: &mut Report) -> Result<()> {
    stage(settings, report, 9000, 2.0, |tree| large_file(tree, settings))
}

fn large_file(tree: &Path, settings: &Settings) -> Result<u64> {
    let size = settings.scaled(FILE_SIZE);
    content::write_noise(&tree.join("file"), size, 1)?;
    content::write_init_script(tree)?;
    content::settle(tree)?;
    Ok(size)
}

fn stage(
    settings: &Settings,
    report: &mut Report,
    mtu: u32,
    speed_goal: f64,
    write_tree: impl FnOnce(&Path) -> Result<u64>,
) -> Result<()> {
    let site = StageSite::with_mtu(mtu)?;
    let (operator, host) = (site.bed().operator(), site.bed().host(1));
    let tree = operator.desk().join("tree");
    let bytes = write_tree(&tree)?;
    let gantry = GantryStaging::of_tree(operator, host, &tree)?;
    let peer = |tool| SshCopy {
        tool,
        key: site.key(),
        operator,
        host,
        tree: &tree,
        destination: PEERS_FOLDER,
    };
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Box::new(gantry),
        Box::new(peer(Tool::Scp)),
        Box::new(peer(Tool::Rsync)),
    ];
    let meter = Meter::of([operator.cgroup(), host.cgroup()]);
    let all = compare(&meter, settings.rounds, &mut contenders)?;

    report.note(format!(
        "{:.1} MB, cached at the sender, written to memory at the receiver; CPU of both ends, all processes. Gantry",
        bytes as f64 / 1e6
    ));
    report.note("verifies every chunk and syncs the filesystem before it says done; the peers do neither. Its image was");
    report.note("built before, once for all hosts and rounds (see the benchmark `build`).");
    let (gantry, peers) = (&all[0], &all[1..]);
    report.rates(bytes, gantry, peers);
    report.goal(
        "speed / the faster of scp and rsync",
        speed_ratio(gantry, peers),
        Bound::AtLeast(speed_goal),
        "x",
    );
    report.goal(
        "CPU / the cheaper of scp and rsync",
        cpu_ratio(gantry, peers),
        Bound::AtMost(1.0),
        "x",
    );
    Ok(())
}
