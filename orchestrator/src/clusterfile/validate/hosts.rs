//! `spec.hosts`: addresses and roles.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{env, marks};
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::{Node, Span, Value};
use crate::clusterfile::{Host, Role};

/// Most hosts of one cluster: twice what Kubernetes is made for.
const MAX_HOSTS: usize = 10_000;
/// Words people write for the two roles.
const MEANT: &[(&str, &str)] = &[
    ("masters", "master"),
    ("control-plane", "master"),
    ("controlplane", "master"),
    ("controller", "master"),
    ("server", "master"),
    ("nodes", "node"),
    ("worker", "node"),
    ("workers", "node"),
    ("agent", "node"),
];

/// The hosts of every group, in the order of the file.
pub(super) fn hosts(list: Option<&Node>, mistakes: &mut Vec<Mistake>, notes: &mut Vec<String>) -> Vec<Host> {
    let Some(list) = list else { return Vec::new() };
    let before = mistakes.len();
    let mut seen: HashMap<IpAddr, Span> = HashMap::new();
    let mut hosts = Vec::new();
    let mut unclear = false;
    for group in list.items() {
        let role = group.get("roles").and_then(|roles| role_of(roles, mistakes));
        unclear |= role.is_none();
        let env = group
            .get("env")
            .map(|list| env::variables(list, mistakes, notes))
            .unwrap_or_default();
        let marks = marks::marks(group, mistakes);
        if group.get("ssh").is_some() {
            notes.push("`ssh` is not used: agents are enrolled, nothing goes over ssh".into());
        }
        let Some(ips) = group.get("ips") else { continue };
        if matches!(&ips.value, Value::List(items) if items.is_empty()) {
            mistakes.push(
                Mistake::new(ips.span.clone(), "this group has no hosts").help("list at least one address"),
            );
        }
        for item in ips.items() {
            let Some(address) = address(item, mistakes) else {
                continue;
            };
            if let Some(first) = seen.get(&address) {
                let mistake = Mistake::new(item.span.clone(), format!("{address} is listed twice"));
                mistakes.push(
                    mistake
                        .beside(first.clone(), "first here")
                        .help("a host belongs to one group"),
                );
                continue;
            }
            seen.insert(address, item.span.clone());
            let Some(role) = role else { continue };
            hosts.push(Host {
                address,
                role,
                env: env.clone(),
                marks: marks.clone(),
                hostname: None,
            });
        }
    }
    if hosts.len() > MAX_HOSTS {
        mistakes.push(Mistake::new(
            list.span.clone(),
            format!("more than {MAX_HOSTS} hosts"),
        ));
    }
    let has_master = hosts.iter().any(|host| host.role == Role::Master);
    let is_list = matches!(list.value, Value::List(_));
    if !has_master && !unclear && is_list && mistakes.len() == before {
        let mistake = Mistake::new(list.span.clone(), "no host has the role master");
        mistakes.push(mistake.help("give one group `roles: [master]`"));
    }
    hosts
}

fn address(item: &Node, mistakes: &mut Vec<Mistake>) -> Option<IpAddr> {
    let text = item.text()?;
    let wrong = match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => "it is the address of no host",
        Ok(address) => return Some(address),
        Err(_) if is_range(text) => "ranges are not supported; list each address",
        Err(_) if text.contains('/') => "networks are not supported; list each address",
        Err(_) if text.parse::<std::net::SocketAddr>().is_ok() => "leave the port out: agents listen on 7443",
        Err(_) if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            "an IPv4 address is four numbers from 0 to 255, e.g. 10.0.0.2"
        }
        Err(_) => "write an IPv4 or IPv6 address; host names are not supported",
    };
    mistakes.push(Mistake::new(item.span.clone(), format!("{text:?} is not a host's address")).help(wrong));
    None
}

fn is_range(text: &str) -> bool {
    text.split_once('-')
        .is_some_and(|(first, _)| first.trim().parse::<IpAddr>().is_ok())
}

/// Master or node; free names beside it are allowed, both are not.
fn role_of(roles: &Node, mistakes: &mut Vec<Mistake>) -> Option<Role> {
    let named = |word: &str| roles.items().iter().find(|item| item.text() == Some(word));
    match (named("master"), named("node")) {
        (Some(master), Some(node)) => {
            let mistake = Mistake::new(node.span.clone(), "a host cannot be both master and node");
            let mistake = mistake.beside(master.span.clone(), "master here");
            mistakes.push(mistake.help("keep one of them; a master runs everything a node runs"));
            None
        }
        (Some(_), None) => Some(Role::Master),
        (None, Some(_)) => Some(Role::Node),
        (None, None) => {
            let Value::List(items) = &roles.value else {
                return None;
            };
            let typo = items.iter().find_map(|item| Some((item, meant(item.text()?)?)));
            let (span, message, help) = match typo {
                Some((item, meant)) => {
                    let message = format!("{:?} is neither master nor node", item.text().unwrap_or_default());
                    (item.span.clone(), message, format!("did you mean `{meant}`?"))
                }
                None => (
                    roles.span.clone(),
                    "these hosts are neither master nor node".to_owned(),
                    "add `master` or `node`; other names may stand beside it".to_owned(),
                ),
            };
            mistakes.push(Mistake::new(span, message).help(help));
            None
        }
    }
}

fn meant(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    MEANT
        .iter()
        .find(|(other, _)| *other == word)
        .map(|(_, meant)| *meant)
        .or_else(|| {
            let near = |role: &str, distance| strsim::damerau_levenshtein(&word, role) <= distance;
            if near("master", 2) {
                Some("master")
            } else if near("node", 1) {
                Some("node")
            } else {
                None
            }
        })
}
