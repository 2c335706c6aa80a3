//! What speaks against changing these hosts, found in one pass before anything is changed.

mod exec;
mod identity;
mod kubernetes;
pub(crate) mod quorum;

pub use exec::allow_exec;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use gantry_model::{ExitCode, HostFacts};

use super::{Plan, PlanImage};
use crate::clusterfile::Role;
use crate::inventory::{ClusterInventory, HostReport};
use crate::output::bytes;

/// Largest difference between a host's clock and ours, in milliseconds: certificates and etcd bear no more.
pub const MAX_CLOCK_SKEW_MS: u64 = 30_000;
/// Room that has to stay free beside the image, in bytes: journals, logs, the writable side of the rootfs.
const ROOM_TO_SPARE: u64 = 256 << 20;
/// TCP ports of the control plane.
const MASTER_PORTS: [u16; 6] = [6443, 2379, 2380, 10250, 10257, 10259];
/// TCP ports of every host.
const NODE_PORTS: [u16; 1] = [10250];

/// The checks, by the name that `--skip-preflight` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Check {
    /// Every agent answers (cannot be skipped)
    #[value(skip)]
    Reachable,
    /// Agents and this program trust each other (cannot be skipped)
    #[value(skip)]
    Trusted,
    /// Agents know everything that they will be asked (cannot be skipped)
    #[value(skip)]
    Agent,
    /// The host's signature policy accepts the image (cannot be skipped)
    #[value(skip)]
    Signature,
    /// The image is for the host's processors
    Arch,
    /// The image fits on the host's disk
    Disk,
    /// The host's file system can carry overlay mounts
    Overlay,
    /// The host's clock is right
    Clock,
    /// No two addresses lead to one host, and every host has its own name
    Identity,
    /// Ports that Kubernetes and the registry need are free
    Ports,
    /// Commands that the image's scripts need are there
    Commands,
    /// The host is not part of another Kubernetes cluster
    Leftovers,
    /// Swap is off, or kubelet is told to bear it
    Swap,
    /// The kernel has the controllers of control groups that kubelet needs
    Cgroups,
    /// Commands that kubeadm needs are there, or in the image
    Tools,
    /// etcd's data fits on the host's disk
    EtcdDisk,
    /// The addresses of pods and services are nobody else's
    Networks,
    /// Hosts that run commands of the Clusterfile allow it (cannot be skipped)
    #[value(skip)]
    AllowExec,
    /// etcd keeps its quorum without the control planes that leave (cannot be skipped)
    #[value(skip)]
    Quorum,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reachable => "reachable",
            Self::Trusted => "trusted",
            Self::Agent => "agent",
            Self::Signature => "signature",
            Self::Arch => "arch",
            Self::Disk => "disk",
            Self::Overlay => "overlay",
            Self::Clock => "clock",
            Self::Identity => "identity",
            Self::Ports => "ports",
            Self::Commands => "commands",
            Self::Leftovers => "leftovers",
            Self::Swap => "swap",
            Self::Cgroups => "cgroups",
            Self::Tools => "tools",
            Self::EtcdDisk => "etcd-disk",
            Self::Networks => "networks",
            Self::AllowExec => "allow-exec",
            Self::Quorum => "quorum",
        })
    }
}

/// One thing that speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// Where.
    pub host: IpAddr,
    /// What and why: one line.
    pub message: String,
}

/// Everything that speaks against executing `plan`, by check.
#[must_use]
pub fn preflight(
    plan: &Plan,
    image: &PlanImage,
    inventory: &ClusterInventory,
    skip: &[Check],
) -> Vec<Finding> {
    let is_skipped = |host: IpAddr| plan.skipped().any(|one| one.address == host);
    let mut findings: Vec<Finding> = inventory
        .unreachable()
        .filter(|(host, _)| !is_skipped(*host))
        .map(|(host, reason)| Finding {
            check: if inventory.is_refused(host) {
                Check::Trusted
            } else {
                Check::Reachable
            },
            host,
            message: reason.to_owned(),
        })
        .collect();
    for host in &plan.hosts {
        let Some(report) = inventory.report(host.address) else {
            continue;
        };
        let mut add = |check, message| {
            findings.push(Finding {
                check,
                host: host.address,
                message,
            });
        };
        // What a host lacks does not keep it from leaving.
        if !host.place.is_to_stay() {
            continue;
        }
        let facts = &report.inventory.facts;
        arch(image, facts, &mut add);
        disk(image, report, &mut add);
        if !facts.overlay {
            let text = "the file system below /var/lib/gantry cannot carry overlay mounts; use ext4, or xfs with ftype=1";
            add(Check::Overlay, text.into());
        }
        if let Some(text) = clock_skew(report) {
            add(Check::Clock, text);
        }
        if !facts.missing_commands.is_empty() {
            let commands = facts.missing_commands.join(", ");
            add(
                Check::Commands,
                format!("the image's scripts need {commands}; install them on the host"),
            );
        }
        if !report.has(&plan.cluster) {
            ports(&host.ports, facts, &mut add);
            if image.kubernetes.is_some() && !facts.kubernetes.is_empty() {
                let found = facts.kubernetes.join(", ");
                let text = format!(
                    "it is part of another Kubernetes cluster: it has {found}; take it out of that one (kubeadm reset)"
                );
                add(Check::Leftovers, text);
            }
        }
        kubernetes::host(plan, image, host, report, &mut add);
    }
    kubernetes::cluster(plan, &mut findings);
    findings.extend(allow_exec(plan, inventory));
    identity::identity(plan, inventory, &mut findings);
    findings.retain(|finding| !skip.contains(&finding.check));
    findings.sort_by_key(|finding| (finding.check, finding.host));
    findings
}

/// What does not speak against executing `plan`, but against what comes later.
#[must_use]
pub fn warnings(plan: &Plan, inventory: &ClusterInventory, skip: &[Check]) -> Vec<Finding> {
    if skip.contains(&Check::Swap) {
        return Vec::new();
    }
    let stays = plan.hosts.iter().filter(|host| host.place.is_to_stay());
    stays
        .filter_map(|host| {
            let message = kubernetes::after_boot(plan, inventory.report(host.address)?)?;
            Some(Finding {
                check: Check::Swap,
                host: host.address,
                message,
            })
        })
        .collect()
}

/// TCP ports that have to be free on a host of this role; `registry` is the registry's port on its host.
pub(super) fn ports_of(role: Role, registry: Option<u16>) -> Vec<u16> {
    let ports: &[u16] = if role == Role::Master {
        &MASTER_PORTS
    } else {
        &NODE_PORTS
    };
    ports.iter().copied().chain(registry).collect()
}

/// The exit code for these findings: hosts that cannot be reached are another matter than hosts that do not fit.
#[must_use]
pub fn exit_code(findings: &[Finding]) -> ExitCode {
    if findings.iter().any(|finding| finding.check == Check::Signature) {
        return ExitCode::Verification;
    }
    if findings
        .iter()
        .any(|finding| !matches!(finding.check, Check::Reachable | Check::Trusted))
    {
        ExitCode::Preflight
    } else if findings.iter().any(|finding| finding.check == Check::Trusted) {
        ExitCode::Verification
    } else {
        ExitCode::Unreachable
    }
}

/// Findings for people: each message once, with the hosts it is about.
#[must_use]
pub fn render(findings: &[Finding]) -> String {
    let mut groups: BTreeMap<(Check, &str), Vec<String>> = BTreeMap::new();
    for finding in findings {
        groups
            .entry((finding.check, &finding.message))
            .or_default()
            .push(finding.host.to_string());
    }
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let mut text = String::new();
    for ((check, message), hosts) in groups {
        let name = check.to_string();
        text.push_str(&format!(
            "  {red}✗{red:#} {name:<10} {}: {message}\n",
            super::render::host_list(&hosts)
        ));
    }
    text
}

/// How far a host's clock is from this machine's, where that is too far.
pub(super) fn clock_skew(report: &HostReport) -> Option<String> {
    if report.skew_ms.unsigned_abs() <= MAX_CLOCK_SKEW_MS {
        return None;
    }
    let seconds = report.skew_ms.abs() / 1000;
    let way = if report.skew_ms > 0 { "ahead" } else { "behind" };
    Some(format!(
        "its clock is {seconds} s {way} this machine's; set it right (chronyd, ntpd)"
    ))
}

fn arch(image: &PlanImage, facts: &HostFacts, add: &mut impl FnMut(Check, String)) {
    if !image.arch.is_empty() && image.arch != facts.arch {
        let message = format!("the image is for {}, the host is {}", image.arch, facts.arch);
        add(Check::Arch, message);
    }
}

fn disk(image: &PlanImage, report: &HostReport, add: &mut impl FnMut(Check, String)) {
    let needed = still_needed(image, report);
    let free = report.inventory.facts.store_disk.free;
    if needed > 0 && needed + ROOM_TO_SPARE > free {
        let message = format!(
            "the image needs {} below /var/lib/gantry (and {} to spare), {} are free",
            bytes(needed),
            bytes(ROOM_TO_SPARE),
            bytes(free)
        );
        add(Check::Disk, message);
    }
}

/// Bytes of the image that are still to come to the host's disk.
fn still_needed(image: &PlanImage, report: &HostReport) -> u64 {
    let present = &report.inventory.layers;
    let missing = image
        .layers
        .iter()
        .filter(|layer| !present.contains(&layer.descriptor.digest));
    let unpacked: u64 = missing.map(|layer| layer.unpacked).sum();
    let partial: u64 = report
        .inventory
        .partial_layers
        .iter()
        .map(|(_, bytes)| bytes)
        .sum();
    unpacked.saturating_sub(partial)
}

fn ports(ours: &[u16], facts: &HostFacts, add: &mut impl FnMut(Check, String)) {
    let in_use = |port: &u16| {
        facts
            .ports
            .iter()
            .any(|listening| listening.port == *port && !listening.udp)
    };
    let taken: Vec<String> = ours
        .iter()
        .filter(|port| in_use(port))
        .map(ToString::to_string)
        .collect();
    if !taken.is_empty() {
        let message = format!(
            "something listens on TCP port {} already; stop it first",
            taken.join(", ")
        );
        add(Check::Ports, message);
    }
}
