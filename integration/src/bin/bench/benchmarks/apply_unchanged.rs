//! What it costs to ask three hosts whether anything is to be done, when nothing is.

use anyhow::{Result, bail};
use gantry_integration::{Host, ImageTree, Operator, Options, Testbed, command};

use crate::contender::Contender;
use crate::gantry_staging::clusterfile;
use crate::measure::{Meter, compare};
use crate::report::{Bound, Report};
use crate::settings::Settings;
use crate::ssh_peer::{HOST_PACKAGES, SshKey};

/// One run takes a fraction of a second: more of them cost nothing.
const ROUNDS_FACTOR: usize = 3;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let bed = Testbed::enrolled_with(&Options {
        hosts: 3,
        extra_packages: HOST_PACKAGES,
        ..Options::default()
    })?;
    let operator = bed.operator();
    let key = SshKey::create(operator)?;
    let hosts: Vec<&Host> = bed.hosts().iter().collect();
    for host in &hosts {
        key.accept_on(host, operator)?;
    }
    let image = ImageTree::with_scripts(&operator.desk().join("image"))?;
    operator.must(&format!("build -t bench/scripts:v1 {}", image.folder().display()))?;
    operator.put("Clusterfile", clusterfile("bench/scripts:v1", &hosts))?;
    operator.must("apply -f Clusterfile -y")?;

    let logins: Vec<String> = hosts
        .iter()
        .map(|host| format!("{} true", key.ssh(&key.to(host))))
        .collect();
    let in_turn = logins.join(" && ");
    let at_once = format!("{} & wait", logins.join(" & "));
    let mut contenders: Vec<Box<dyn Contender + '_>> = vec![
        Box::new(UnchangedApply {
            operator,
            hosts: &hosts,
        }),
        Box::new(Logins {
            name: "ssh HOST true, one after the other",
            operator,
            script: in_turn,
        }),
        Box::new(Logins {
            name: "ssh HOST true, all at once",
            operator,
            script: at_once,
        }),
    ];
    let meter = Meter::of(
        [operator.cgroup()]
            .into_iter()
            .chain(hosts.iter().map(|host| host.cgroup())),
    );
    let all = compare(&meter, settings.rounds * ROUNDS_FACTOR, &mut contenders)?;

    report.row(["what", "s", "CPU s", "time / gantry apply"]);
    for series in &all {
        let ratio = series.seconds() / all[0].seconds();
        let cells = [
            format!("{:.3}", series.seconds()),
            format!("{:.3}", series.cpu_seconds()),
            format!("{ratio:.2}"),
        ];
        report.row([series.name.clone()].into_iter().chain(cells));
    }
    report.goal(
        "apply of an unchanged Clusterfile, three hosts",
        all[0].seconds(),
        Bound::AtMost(1.0),
        " s",
    );
    Ok(())
}

struct UnchangedApply<'a> {
    operator: &'a Operator,
    hosts: &'a [&'a Host],
}

impl Contender for UnchangedApply<'_> {
    fn name(&self) -> &str {
        "gantry apply, nothing to do"
    }

    fn run(&mut self) -> Result<()> {
        self.operator.must("apply -f Clusterfile -y").map(drop)
    }

    /// Every script ran once, in the apply before all rounds.
    fn check(&mut self) -> Result<()> {
        for host in self.hosts {
            let ran = host.must("grep -c '^init.sh' /var/log/scripts")?;
            if ran.trim() != "1" {
                bail!("init.sh ran {} times on {}", ran.trim(), host.name());
            }
        }
        Ok(())
    }
}

struct Logins<'a> {
    name: &'static str,
    operator: &'a Operator,
    script: String,
}

impl Contender for Logins<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self) -> Result<()> {
        command::run(&mut self.operator.shell(&self.script))?
            .ok()
            .map(drop)
    }
}
