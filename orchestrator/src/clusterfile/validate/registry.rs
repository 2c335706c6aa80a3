//! `spec.registry` and `spec.hostAliases`: names that hosts resolve.

use std::net::IpAddr;

use gantry_model::HostsEntry;

use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::Node;
use crate::clusterfile::{Registry, RegistryMode};

pub(super) fn registry(spec: &Node, mistakes: &mut Vec<Mistake>, notes: &mut Vec<String>) -> Registry {
    let mut registry = Registry::default();
    let Some(node) = spec.get("registry") else {
        return registry;
    };
    registry.mode = match node.get("mode").and_then(Node::text) {
        Some("agent") => Some(RegistryMode::Agent),
        Some("image") => Some(RegistryMode::Image),
        _ => None,
    };
    let Some(local) = node.get("localRegistry") else {
        return registry;
    };
    if let Some(domain) = local.get("domain") {
        registry.domain = host_name(domain, mistakes).unwrap_or(registry.domain);
    }
    if let Some(port) = local.get("port").and_then(|port| port.text()?.parse().ok()) {
        registry.port = port;
    }
    of_sealer(local, registry.mode, mistakes, notes);
    registry
}

/// What sealer's users say of the registry, and what holds.
fn of_sealer(local: &Node, mode: Option<RegistryMode>, mistakes: &mut Vec<Mistake>, notes: &mut Vec<String>) {
    match (local.get("ha").and_then(Node::text), mode) {
        (Some("true"), Some(RegistryMode::Agent))
        | (Some("false"), Some(RegistryMode::Image))
        | (None, _) => {}
        (Some("false"), Some(RegistryMode::Agent)) => {
            notes.push("`localRegistry.ha: false` is not used: every agent serves its own host".into());
        }
        (Some(word), mode) => {
            let scripts = match mode {
                Some(_) => "the image's init-registry.sh serves on the first master alone",
                None => {
                    "an image's init-registry.sh, where there is one, serves on the first master alone, agents each their own host"
                }
            };
            notes.push(format!(
                "`localRegistry.ha: {word}` is not used: {scripts}; `registry.mode: agent` makes it outlive any host"
            ));
        }
    }
    let Some(insecure) = local.get("insecure") else {
        return;
    };
    match insecure.text() {
        Some("true") => {
            let message = "`spec.registry.localRegistry.insecure` cannot be true";
            let help = "leave it out: agents always serve over TLS, and an image's init-registry.sh decides for itself";
            mistakes.push(Mistake::new(insecure.span.clone(), message).help(help));
        }
        Some("false") if mode != Some(RegistryMode::Agent) => notes.push(
            "`localRegistry.insecure: false` is not used: agents always serve over TLS, an image's init-registry.sh decides for itself"
                .into(),
        ),
        _ => {}
    }
}

pub(super) fn host_aliases(spec: &Node, mistakes: &mut Vec<Mistake>) -> Vec<HostsEntry> {
    let mut entries = Vec::new();
    for alias in spec.get("hostAliases").map(Node::items).unwrap_or_default() {
        let names = alias.get("hostnames").map(Node::items).unwrap_or_default();
        let names: Vec<String> = names
            .iter()
            .filter_map(|name| host_name(name, mistakes))
            .collect();
        let Some(ip) = alias.get("ip") else { continue };
        match ip.text().map(str::parse::<IpAddr>) {
            Some(Ok(address)) => entries.push(HostsEntry { address, names }),
            Some(Err(_)) => {
                let text = ip.text().unwrap_or_default();
                mistakes.push(Mistake::new(
                    ip.span.clone(),
                    format!("{text:?} is not an IP address"),
                ));
            }
            None => {}
        }
    }
    entries
}

/// A DNS name; it ends up in `/etc/hosts` and in arguments of scripts.
fn host_name(node: &Node, mistakes: &mut Vec<Mistake>) -> Option<String> {
    let text = node.text()?;
    let label = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Some(text.to_owned());
    }
    let mistake = Mistake::new(node.span.clone(), format!("{text:?} is not a host name"));
    let help = if text.contains(':') {
        "leave the port out"
    } else {
        "labels of a-z, 0-9 and '-', with dots between"
    };
    mistakes.push(mistake.help(help));
    None
}
