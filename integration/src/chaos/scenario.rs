//! This module owns [`Scenario`]: an image, and what the acts of a cluster's life are with it.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{Host, ImageTree, Snapshot, Testbed};

/// What the Clusterfile says about a file that every host makes of a template, and what it runs there.
const DOCUMENTS: &str = "---\nkind: Config\nspec: { path: etc/settings.yml, strategy: merge, data: 'colour: blue' }\n\
     ---\nkind: Plugin\nmetadata: { name: own }\nspec:\n  type: SHELL\n  action: PreInit\n  data: |\n    \
     while [ -e '/run/hold-plugin own' ]; do sleep 0.1; done\n    echo ran >>/opt/made-by-plugin\n";
/// Where generations of the rootfs are mounted.
const GENERATIONS: &str = " /var/lib/gantry/data/demo/generations/";
/// What [`Act::RotateCa`] replaces, on the first host.
const CA_BEFORE: &str = "/root/ca-before.crt";
/// What [`Act::Restore`] goes back to.
const BACKUP: &str = "before.db";

/// A command in a cluster's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Both hosts become a cluster.
    Create,
    /// The second host joins.
    Join,
    /// Both hosts get the next image.
    Upgrade,
    /// Both hosts get the image back that they had before.
    Rollback,
    /// etcd goes back to a snapshot.
    Restore,
    /// The control plane gets new certificates.
    Renew,
    /// The cluster gets a new CA.
    RotateCa,
    /// The second host leaves.
    Leave,
    /// The cluster goes.
    Reset,
}

impl Act {
    /// Hosts of the Clusterfile before and after.
    const fn hosts(self) -> (u8, u8) {
        match self {
            Self::Create => (0, 2),
            Self::Join => (1, 2),
            Self::Leave => (2, 1),
            Self::Upgrade | Self::Rollback | Self::Restore | Self::Renew | Self::RotateCa | Self::Reset => {
                (2, 2)
            }
        }
    }

    /// The words `gantry` is run with.
    pub(super) fn command(self, scenario: Scenario) -> String {
        let words = match self {
            Self::Create | Self::Join | Self::Upgrade | Self::Leave => "apply -f Clusterfile",
            Self::Rollback => {
                return format!(
                    "rollback -f Clusterfile --to {} -y --progress json",
                    scenario.image(false)
                );
            }
            Self::Restore => return format!("restore -i {BACKUP} -y --progress json"),
            Self::Renew => "certs renew",
            Self::RotateCa => "certs rotate-cluster-ca --pods-restarted",
            Self::Reset => "reset -f Clusterfile",
        };
        format!("{words} -y --progress json")
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Join => "join",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Renew => "renew",
            Self::RotateCa => "rotate-ca",
            Self::Leave => "leave",
            Self::Reset => "reset",
        })
    }
}

/// Which image the cluster is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A few small scripts: what Gantry itself does at every step, in seconds.
    Scripts,
    /// Kubernetes, with kubeadm: a control plane and a worker.
    Kubernetes,
    /// Kubernetes with three control planes, of which the third leaves and joins.
    ControlPlanes,
}

impl Scenario {
    /// What happens in a life, in order: every act begins where the one before it ended.
    #[must_use]
    pub const fn acts(self) -> &'static [Act] {
        match self {
            Self::Scripts => &[
                Act::Create,
                Act::Leave,
                Act::Join,
                Act::Upgrade,
                Act::Rollback,
                Act::Reset,
            ],
            Self::Kubernetes => &[
                Act::Create,
                Act::Leave,
                Act::Join,
                Act::Upgrade,
                Act::Rollback,
                Act::Restore,
                Act::Renew,
                Act::RotateCa,
                Act::Reset,
            ],
            Self::ControlPlanes => &[Act::Create, Act::Leave, Act::Join, Act::Reset],
        }
    }

    /// Control planes and workers of an act's `hosts`.
    const fn roles(self, hosts: u8) -> (u8, u8) {
        match self {
            Self::Scripts => (hosts, 0),
            Self::Kubernetes => (1, hosts - 1),
            Self::ControlPlanes => (hosts + 1, 0),
        }
    }

    /// The members of the cluster after `act`.
    fn members(self, bed: &Testbed, act: Act) -> impl Iterator<Item = &Host> {
        let (control_planes, workers) = self.roles(act.hosts().1);
        bed.hosts().iter().take((control_planes + workers).into())
    }

    /// The image, or the next one.
    const fn image(self, next: bool) -> &'static str {
        match (self, next) {
            (Self::Scripts, false) => "demo:v1",
            (Self::Scripts, true) => "demo:v2",
            (Self::Kubernetes | Self::ControlPlanes, false) => "kubernetes:v1.20.2",
            (Self::Kubernetes | Self::ControlPlanes, true) => "kubernetes:v1.20.3",
        }
    }

    /// No act takes longer.
    pub(super) const fn limit(self) -> Duration {
        match self {
            Self::Scripts => Duration::from_secs(120),
            Self::Kubernetes | Self::ControlPlanes => Duration::from_secs(900),
        }
    }

    /// Hosts without a cluster, and an operator with the image.
    pub(super) fn start(self) -> Result<Testbed> {
        match self {
            Self::Kubernetes | Self::ControlPlanes => {
                let (control_planes, workers) = self.roles(2);
                Testbed::for_kubernetes(control_planes, workers)
            }
            Self::Scripts => {
                let bed = Testbed::enrolled(2)?;
                for version in ["v1", "v2"] {
                    image_of_scripts(&bed, version)?;
                    bed.operator()
                        .must(&format!("build -t demo:{version} {version}"))?;
                }
                for host in bed.hosts() {
                    host.must(
                        "echo allow_exec = true >/etc/gantry/agent.toml && systemctl restart gantry-agent",
                    )?;
                    host.wait_for_agent()?;
                }
                Ok(bed)
            }
        }
    }

    /// Brings the cluster to where `act` begins; the Clusterfile is then the one `act` is about.
    pub(super) fn reach(self, bed: &Testbed, act: Act) -> Result<()> {
        let (before, after) = act.hosts();
        // Where the last act was the upgrade, its file is the one to begin with.
        let upgraded = || {
            let file = fs::read_to_string(bed.operator().desk().join("Clusterfile"));
            file.is_ok_and(|text| text.contains(self.image(true)))
        };
        if before > 0 && !(act == Act::Rollback && upgraded()) {
            self.clusterfile(bed, before, false)?;
            bed.operator().apply()?.ok()?;
        }
        if act == Act::Restore {
            bed.operator().must(&format!("backup -o {BACKUP}"))?;
        }
        if act == Act::RotateCa {
            bed.host(1)
                .must(&format!("cp /etc/kubernetes/pki/ca.crt {CA_BEFORE}"))?;
        }
        if act == Act::Rollback {
            self.clusterfile(bed, after, true)?;
            bed.operator().apply()?.ok()?;
            return Ok(());
        }
        self.clusterfile(bed, after, act == Act::Upgrade)
    }

    fn clusterfile(self, bed: &Testbed, hosts: u8, next: bool) -> Result<()> {
        let (control_planes, workers) = self.roles(hosts);
        match self {
            Self::Kubernetes | Self::ControlPlanes if next => {
                bed.wish_for_next_kubernetes(control_planes, workers).map(drop)
            }
            Self::Kubernetes | Self::ControlPlanes => bed.write_clusterfile(control_planes, workers),
            Self::Scripts => {
                let hosts: Vec<&Host> = bed.hosts().iter().take(hosts.into()).collect();
                let operator = bed.operator();
                let file = operator.clusterfile(self.image(next), &hosts)?;
                let text = fs::read_to_string(operator.desk().join(file))? + DOCUMENTS;
                operator.put(file, text).map(drop)
            }
        }
    }

    /// Keeps the program of a step from ending on `host` until [`Self::release`], where this scenario's programs can
    /// be kept: a fault then finds it running.
    pub(super) fn hold(self, host: &Host, title: &str) -> Result<()> {
        match self {
            Self::Scripts => host.must(&format!("touch '/run/hold-{title}'")).map(drop),
            Self::Kubernetes | Self::ControlPlanes => Ok(()),
        }
    }

    /// Lets the program go on.
    pub(super) fn release(self, host: &Host, title: &str) -> Result<()> {
        match self {
            Self::Scripts => host.must(&format!("rm --force '/run/hold-{title}'")).map(drop),
            Self::Kubernetes | Self::ControlPlanes => Ok(()),
        }
    }

    /// What has to be done to a host after every boot, before the agent goes on.
    pub(super) fn booted(self, host: &Host) -> Result<()> {
        match self {
            Self::Scripts => Ok(()),
            Self::Kubernetes | Self::ControlPlanes => host.prepare_for_kubernetes(),
        }
    }

    /// That the cluster is as `act` leaves it when nothing goes wrong. `bare`: the hosts before there was a cluster.
    pub(super) fn check(self, bed: &Testbed, act: Act, bare: &[Snapshot]) -> Result<()> {
        let found = bed.snapshots()?;
        if act == Act::Reset {
            return alike(bed, &found, bare);
        }
        let next = act == Act::Upgrade;
        if self != Self::Scripts {
            let version = if next { "v1.20.3" } else { "v1.20.2" };
            let nodes = self
                .members(bed, act)
                .map(|host| format!("{} {version} True;", host.name()));
            let (wanted, nodes) = (nodes.collect::<String>(), bed.host(1).nodes()?);
            ensure!(nodes == wanted, "nodes are {nodes}, not {wanted}");
            if act == Act::RotateCa {
                let gone = bed
                    .host(1)
                    .run(&format!("cmp /etc/kubernetes/pki/ca.crt {CA_BEFORE}"))?;
                ensure!(gone.status == Some(1), "the CA is the one of before: {gone}");
                bed.host(1).must(&format!("rm {CA_BEFORE}"))?;
            }
            let members = bed.etcd_members()?;
            let control_planes = usize::from(self.roles(act.hosts().1).0);
            ensure!(
                members == control_planes,
                "etcd has {members} members, not {control_planes}"
            );
            one_ca(self.members(bed, act))?;
            // What a host of Kubernetes is like depends on the run; one that left, or never joined, is what it was before.
            return alike_from(bed, self.members(bed, act).count(), &found, bare);
        }
        // What the same act makes of the same hosts when nothing is in its way.
        let operator = bed.operator();
        self.clusterfile(bed, 2, next)?;
        operator.must(&Act::Reset.command(self))?;
        alike(bed, &bed.snapshots()?, bare)?;
        self.reach(bed, act)?;
        operator.must(&act.command(self))?;
        alike(bed, &found, &bed.snapshots()?)
    }
}

/// That the hosts trust one CA, and nothing is left of its replacement.
fn one_ca<'a>(members: impl Iterator<Item = &'a Host>) -> Result<()> {
    let mut known = None;
    for host in members {
        let (count, left) = (host.count_of_cas()?, host.left_of_ca_replacement()?);
        ensure!(count == 1, "{} trusts {count} CAs", host.name());
        ensure!(left.is_empty(), "on {} there is still {left}", host.name());
        let found = host.ca_fingerprint()?;
        let known = known.get_or_insert_with(|| found.clone());
        ensure!(found == *known, "{} trusts {found}, not {known}", host.name());
    }
    Ok(())
}

/// That all hosts are as wanted.
pub(super) fn alike(bed: &Testbed, found: &[Snapshot], wanted: &[Snapshot]) -> Result<()> {
    alike_from(bed, 0, found, wanted)
}

/// That the hosts behind the first `skipped` are as wanted.
fn alike_from(bed: &Testbed, skipped: usize, found: &[Snapshot], wanted: &[Snapshot]) -> Result<()> {
    for ((host, found), wanted) in bed.hosts().iter().zip(found).zip(wanted).skip(skipped) {
        let mut changes = found.changes_since(wanted);
        // Only the current generation is mounted again after a boot; that it is, the agent says when it is asked for drift.
        changes.retain(|change| !change.contains(GENERATIONS));
        ensure!(
            changes.is_empty(),
            "{} is not as it should be: {:#?}",
            host.name(),
            &changes[..changes.len().min(20)]
        );
    }
    Ok(())
}

/// Scripts that leave something behind, and can be kept from ending.
fn image_of_scripts(bed: &Testbed, version: &str) -> Result<()> {
    let image = ImageTree::at(&bed.operator().desk().join(version))?;
    let body = |name: &str, effect: &str| {
        format!(
            "echo {name} begins\nwhile [ -e /run/hold-{name} ]; do sleep 0.1; done\n{effect}\necho {name} ends\n"
        )
    };
    image
        .script(
            "init.sh",
            &body(
                "init.sh",
                &format!("cp ../etc/settings.yml /opt/made-by-init; echo {version} >>/opt/made-by-init"),
            ),
        )?
        .script(
            "init-registry.sh",
            &body("init-registry.sh", "echo \"$*\" >/opt/made-by-registry"),
        )?
        .script("clean.sh", &body("clean.sh", "rm -f /opt/made-by-*"))?
        .file("etc/settings.yml.tmpl", "host: {{ .HostIP }}\n")?
        .incompressible("images/some", 3 << 20, 11)?;
    Ok(())
}
