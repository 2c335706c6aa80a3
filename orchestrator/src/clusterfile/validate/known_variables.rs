//! Variables that sealer itself acts on. Scripts and templates get every variable; what becomes of these besides is said here, and in
//! [`crate::plan`] for those that kubeadm is told (`PodCIDR`, `SvcCIDR`, `CertSANs`, `CgroupDriver`).

use crate::clusterfile::kubernetes::{KubernetesDocuments, KubernetesKind};
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::{closest, one_of};
use crate::clusterfile::tree::Node;

/// The variable that says how kubelets, and with them the runtime, keep containers apart.
pub(crate) const CGROUP_DRIVER: &str = "CgroupDriver";
/// What kubelet knows (kubelet.config.k8s.io/v1beta1, `cgroupDriver`).
pub(crate) const CGROUP_DRIVERS: [&str; 2] = ["systemd", "cgroupfs"];
/// The same in a document of kind KubeletConfiguration.
const FIELD: &str = "cgroupDriver";

/// Variables that have no effect of their own here, what is not done, and what holds instead.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    (
        "UseIPasNodeName",
        "nodes are called as their hosts are; a plugin of type HOSTNAME gives hosts names",
    ),
    (
        "IPv6DualStack",
        "ranges of both families are what makes a cluster dual-stack: PodCIDR=RANGE,RANGE and SvcCIDR=RANGE,RANGE, or `networking` of a ClusterConfiguration",
    ),
    ("IPvsVIPv4", NO_VIRTUAL_ADDRESS),
    ("IPvsVIPv6", NO_VIRTUAL_ADDRESS),
];
const NO_VIRTUAL_ADDRESS: &str =
    "there is no virtual address: on every worker a balancer on a loopback address leads to the API servers";

/// Checks the variables of `spec` and of its hosts against the other `documents` of the file.
pub(super) fn check(
    spec: &Node,
    documents: &[Node],
    of_kubernetes: &KubernetesDocuments,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) {
    let own = variables(spec.get("env"));
    let groups = spec.get("hosts").map(Node::items).unwrap_or_default();
    let of_hosts: Vec<_> = groups
        .iter()
        .flat_map(|group| variables(group.get("env")))
        .collect();
    for (name, why) in WITHOUT_EFFECT {
        let given = own.iter().chain(&of_hosts).find(|(given, ..)| given == name);
        // A switch that is off asks for nothing.
        if given.is_some_and(|(_, value, _)| !matches!(*value, "" | "false")) {
            notes.push(format!("{name} is for scripts and templates alone: {why}"));
        }
    }
    for (_, value, item) in of_hosts.iter().filter(|(name, ..)| *name == CGROUP_DRIVER) {
        let message = format!("{CGROUP_DRIVER}={value} is said of some hosts");
        let help = "kubelets of one cluster have one configuration: write it into `spec.env`";
        mistakes.push(Mistake::new(item.span.clone(), message).help(help));
    }
    // Of a name given twice the last one counts.
    let Some((_, value, item)) = own.iter().rfind(|(name, ..)| *name == CGROUP_DRIVER) else {
        return;
    };
    if !CGROUP_DRIVERS.contains(value) {
        let mistake = Mistake::new(item.span.clone(), format!("kubelet knows no {FIELD} {value:?}"));
        mistakes.push(match closest(value, CGROUP_DRIVERS) {
            Some(meant) => mistake.help(format!("did you mean `{CGROUP_DRIVER}={meant}`?")),
            None => mistake.help(format!("it is {}", one_of(CGROUP_DRIVERS))),
        });
        return;
    }
    let kubelet = of_kubernetes.get(&KubernetesKind::KubeletConfiguration);
    let Some(other) = kubelet
        .and_then(|kubelet| kubelet[FIELD].as_str())
        .filter(|other| other != value)
    else {
        return;
    };
    let kind = KubernetesKind::KubeletConfiguration.name();
    let message = format!("{CGROUP_DRIVER}={value}, and {kind} says `{FIELD}: {other}`");
    let mistake = Mistake::new(item.span.clone(), message).help("leave one of them out");
    let of_kind = |document: &&Node| document.get("kind").and_then(Node::text) == Some(kind);
    let field = documents
        .iter()
        .filter(of_kind)
        .find_map(|document| document.get(FIELD));
    mistakes.push(match field {
        Some(field) => mistake.beside(field.span.clone(), "the other"),
        None => mistake,
    });
}

fn variables(list: Option<&Node>) -> Vec<(&str, &str, &Node)> {
    let items = list.map(Node::items).unwrap_or_default();
    let variable = |item| {
        let (name, value) = Node::text(item)?.split_once('=')?;
        Some((name, value, item))
    };
    items.iter().filter_map(variable).collect()
}
