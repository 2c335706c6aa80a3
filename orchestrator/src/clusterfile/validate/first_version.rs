//! The first version of documents of kind Cluster, read as the second. What is made of it keeps the places of what was written.

use std::net::{IpAddr, SocketAddr};

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::{Entry, Node, Span, Value};

/// The versions of the format whose hosts are `masters` and `nodes`.
const VERSIONS: [&str; 4] = [
    "zlink.aliyun.com/v1alpha1",
    "sealer.aliyun.com/v1alpha1",
    "sealer.cloud/v1",
    "sealer.io/v1",
];
/// The provider of hosts that are there.
const BARE_METAL: &str = "BAREMETAL";
/// Fields that mean the same in both versions.
const SAME: [&str; 3] = ["image", "ssh", "containerRuntime"];
/// Addresses of pods and services, and the variables that have them.
const NETWORK: [(&str, &str); 2] = [("podCIDR", "PodCIDR"), ("svcCIDR", "SvcCIDR")];

/// Whether `document` is of the first version.
pub(in crate::clusterfile) fn is(document: &Node) -> bool {
    let version = document.get("apiVersion").and_then(Node::text);
    let has_groups = document
        .get("spec")
        .is_some_and(|spec| spec.get("hosts").is_some());
    version.is_some_and(|version| VERSIONS.contains(&version)) && !has_groups
}

/// `document`, which is of the first version, as the second would say it.
pub(in crate::clusterfile) fn to_second(
    document: &Node,
    mistakes: &mut Vec<Mistake>,
    notes: &mut Vec<String>,
) -> Node {
    let Some(spec) = document.get("spec") else {
        return document.clone();
    };
    let provider = spec.get("provider");
    if let Some((provider, word)) = provider.and_then(|provider| Some((provider, provider.text()?)))
        && word != BARE_METAL
    {
        let message = format!("provider {word} is not supported by this version");
        let mistake = Mistake::new(provider.span.clone(), message);
        mistakes.push(mistake.help(format!(
            "write {BARE_METAL}: hosts are not created, they are there already"
        )));
    }
    let mut fields: Vec<Entry> = spec
        .entries()
        .iter()
        .filter(|entry| SAME.contains(&entry.key.as_str()))
        .cloned()
        .collect();
    let env = env(spec, notes);
    if !env.is_empty() {
        fields.push(entry("env", list(spec.span.clone(), env)));
    }
    let groups: Vec<Node> = [("masters", "master"), ("nodes", "node")]
        .into_iter()
        .filter_map(|(field, role)| group(spec.get(field)?, role, notes))
        .collect();
    if groups.is_empty() {
        // What is wrong with them was said.
        if mistakes.is_empty() {
            mistakes.push(
                Mistake::new(spec.span.clone(), "there are no hosts").help("list them in `masters.ipList`"),
            );
        }
    } else {
        notes.push("`masters.ipList` and `nodes.ipList` are read as groups of `hosts`, with the roles master and node".into());
        let span = groups[0].span.clone();
        fields.push(entry("hosts", list(span, groups)));
    }
    let spec = Node {
        span: spec.span.clone(),
        value: Value::Map(fields),
    };
    let same = document
        .entries()
        .iter()
        .filter(|entry| entry.key != "spec")
        .cloned();
    Node {
        span: document.span.clone(),
        value: Value::Map(same.chain([entry("spec", spec)]).collect()),
    }
}

/// The variables of the second version: those of the first, and what has fields of its own there.
fn env(spec: &Node, notes: &mut Vec<String>) -> Vec<Node> {
    let mut items: Vec<Node> = spec.get("env").map(Node::items).unwrap_or_default().to_vec();
    let mut variable = |field: &str, name: &str, value: &str, span: &Span| {
        notes.push(format!("`{field}` is read as {name} in `env`"));
        items.push(text(span.clone(), format!("{name}={value}")));
    };
    for (field, name) in NETWORK {
        let range = spec.get("network").and_then(|network| network.get(field));
        if let Some((range, value)) = range.and_then(|range| Some((range, range.text()?))) {
            variable(&format!("network.{field}"), name, value, &range.span);
        }
    }
    if let Some(names) = spec.get("certSANS").filter(|names| !names.items().is_empty()) {
        let all: Vec<&str> = names.items().iter().filter_map(Node::text).collect();
        variable("certSANS", "CertSANs", &all.join(","), &names.span);
    }
    items
}

/// The address that an item of a list of hosts is. Behind it there may be a port.
pub(in crate::clusterfile) fn address_of(item: &Node) -> Option<IpAddr> {
    let text = item.text()?;
    let with_port = || text.parse().ok().map(|given: SocketAddr| given.ip());
    text.parse().ok().or_else(with_port)
}

fn group(hosts: &Node, role: &str, notes: &mut Vec<String>) -> Option<Node> {
    let addresses = hosts.get("ipList").filter(|list| !list.items().is_empty())?;
    let address = |item: &Node| {
        let given: Option<SocketAddr> = item.text().and_then(|text| text.parse().ok());
        given.map_or(item.clone(), |given| {
            notes.push("ports behind addresses are those of ssh, and are not used".into());
            text(item.span.clone(), given.ip().to_string())
        })
    };
    let addresses = list(
        addresses.span.clone(),
        addresses.items().iter().map(address).collect(),
    );
    let roles = list(
        hosts.span.clone(),
        vec![text(hosts.span.clone(), role.to_owned())],
    );
    Some(Node {
        span: hosts.span.clone(),
        value: Value::Map(vec![entry("ips", addresses), entry("roles", roles)]),
    })
}

fn entry(key: &str, value: Node) -> Entry {
    Entry {
        key: key.to_owned(),
        key_span: value.span.clone(),
        key_plain: true,
        value,
    }
}

fn list(span: Span, items: Vec<Node>) -> Node {
    Node {
        span,
        value: Value::List(items),
    }
}

fn text(span: Span, text: String) -> Node {
    Node {
        span,
        value: Value::Scalar { text, plain: false },
    }
}
