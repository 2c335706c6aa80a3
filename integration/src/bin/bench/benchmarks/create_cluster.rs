//! A Kubernetes cluster of three hosts, from an image on the operator's disk until every node is ready: by `gantry apply`, and
//! by hand, as a careful operator would: scp to all hosts at once, the same scripts and the same kubeadm over ssh, side by side
//! wherever that is possible. Each round begins with hosts that were never used. Then what a second apply costs.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use gantry_integration::{Host, Link, Options, Runtime, Testbed, command};

use super::hand_made::HandMade;
use crate::contender::Contender;
use crate::measure::{Meter, compare};
use crate::report::{Bound, Report, speed_ratio};
use crate::settings::Settings;
use crate::ssh_peer::{HOST_PACKAGES, SshKey};

/// Cables in megabits per second, and how much faster than the work by hand Gantry is to be there: what machine rooms have, and
/// one over which the image takes longer than all the rest. All hosts of a site share the operator's cable, so three hosts at
/// 100 Mbit/s wait as thirty do at 1 Gbit/s.
const CABLES: [(u32, f64); 2] = [(1000, 1.0), (100, 1.5)];
/// A round takes minutes, not seconds.
const ROUNDS_DIVISOR: usize = 3;
/// How often the second apply is timed.
const SECOND_APPLIES: usize = 5;

/// The hosts of the round; those of the round before end with it.
type Bed = Rc<RefCell<Option<Testbed>>>;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    report.note("One control plane, two workers, a rootfs of 512 MB; hosts share this machine's processors.");
    report.row(["what", "s", "gantry's speed", "slowest/fastest round"]);
    let bed = Bed::default();
    for (rate_mbit, goal) in CABLES {
        create(settings, report, &bed, rate_mbit, goal)?;
    }
    second_apply(report, &bed)
}

/// Both ways over cables of this rate.
fn create(settings: &Settings, report: &mut Report, bed: &Bed, rate_mbit: u32, goal: f64) -> Result<()> {
    let mut contenders: Vec<Box<dyn Contender>> = vec![
        Box::new(ByHand {
            bed: Rc::clone(bed),
            rate_mbit,
            script: String::new(),
        }),
        Box::new(ByGantry {
            bed: Rc::clone(bed),
            rate_mbit,
        }),
    ];
    let rounds = (settings.rounds / ROUNDS_DIVISOR).max(1);
    let mut all = compare(&Meter::of([]), rounds, &mut contenders)?;
    let ours = all.pop().context("two took part")?;
    for series in std::iter::once(&ours).chain(&all) {
        report.row([
            format!("{}, {rate_mbit} Mbit/s", series.name),
            format!("{:.1}", series.seconds()),
            format!("{:.2}x", series.seconds() / ours.seconds()),
            format!("{:.2}", series.spread()),
        ]);
    }
    report.goal(
        format!("a cluster of three hosts at {rate_mbit} Mbit/s, beside the work by hand"),
        speed_ratio(&ours, &all),
        Bound::AtLeast(goal),
        "x",
    );
    Ok(())
}

fn second_apply(report: &mut Report, bed: &Bed) -> Result<()> {
    // The last round was Gantry's: its cluster is still there.
    let bed = bed.borrow();
    let operator = bed
        .as_ref()
        .context("the hosts of the last round are there")?
        .operator();
    let mut slowest = 0.0_f64;
    for _ in 0..SECOND_APPLIES {
        let started = Instant::now();
        let said = operator.gantry("apply -f Clusterfile -y")?;
        slowest = slowest.max(started.elapsed().as_secs_f64());
        if !said.stderr.contains("nothing to do") {
            bail!("a second apply did something:\n{said}");
        }
    }
    report.goal(
        "a second apply, the slowest of five",
        slowest,
        Bound::AtMost(2.0),
        " s",
    );
    Ok(())
}

/// Hosts that were never used, with the image in the operator's store.
fn fresh(bed: &Bed, rate_mbit: u32) -> Result<()> {
    drop(bed.take());
    let link = Link {
        rate_mbit: Some(rate_mbit),
        ..Link::default()
    };
    let options = Options {
        hosts: 3,
        link,
        extra_packages: HOST_PACKAGES,
    };
    bed.replace(Some(Testbed::for_kubernetes_with(Runtime::Docker, 1, &options)?));
    Ok(())
}

/// Whether the cluster has three nodes, all of them ready.
fn check(bed: &Bed) -> Result<()> {
    let bed = bed.borrow();
    let first = bed.as_ref().context("there are hosts")?.host(1);
    let nodes = first.kubectl("get nodes --no-headers")?;
    let ready = nodes.lines().filter(|line| line.contains(" Ready ")).count();
    if ready != 3 {
        bail!("{ready} of 3 nodes are ready:\n{nodes}");
    }
    Ok(())
}

struct ByGantry {
    bed: Bed,
    rate_mbit: u32,
}

impl Contender for ByGantry {
    fn name(&self) -> &str {
        "gantry apply"
    }

    fn prepare(&mut self) -> Result<()> {
        fresh(&self.bed, self.rate_mbit)
    }

    fn run(&mut self) -> Result<()> {
        let bed = self.bed.borrow();
        let operator = bed.as_ref().context("there are hosts")?.operator();
        operator.must("apply -f Clusterfile -y").map(drop)
    }

    fn check(&mut self) -> Result<()> {
        check(&self.bed)
    }
}

struct ByHand {
    bed: Bed,
    rate_mbit: u32,
    script: String,
}

impl Contender for ByHand {
    fn name(&self) -> &str {
        "scp, ssh and kubeadm by hand"
    }

    fn prepare(&mut self) -> Result<()> {
        fresh(&self.bed, self.rate_mbit)?;
        let bed = self.bed.borrow();
        let bed = bed.as_ref().context("there are hosts")?;
        let operator = bed.operator();
        let key = SshKey::create(operator)?;
        for host in bed.hosts() {
            key.accept_on(host, operator)?;
        }
        operator.must("plan -f Clusterfile -o plan.json")?;
        let plan = fs::read(operator.desk().join("plan.json"))?;
        let hosts: Vec<&Host> = bed.hosts().iter().collect();
        self.script = HandMade::of(&plan)?.script(&key, &hosts)?;
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let bed = self.bed.borrow();
        let operator = bed.as_ref().context("there are hosts")?.operator();
        command::run(&mut operator.shell(&self.script))?.ok().map(drop)
    }

    fn check(&mut self) -> Result<()> {
        check(&self.bed)
    }
}
