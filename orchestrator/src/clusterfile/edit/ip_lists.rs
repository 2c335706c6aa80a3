//! Hosts in the two lists of the first version of the format: `spec.masters.ipList` and `spec.nodes.ipList`.

use std::net::IpAddr;
use std::ops::Range;

use super::EditError;
use super::lists::{behind_the_last, cuts_of, is_flow, joined, line_end, line_start, whole_end};
use crate::clusterfile::Role;
use crate::clusterfile::tree::{Entry, Node};

const LIST: &str = "ipList";
const MASTERS: &str = "masters";
const NODES: &str = "nodes";

/// Where `addresses` come as further hosts of this role, and what is written there.
pub(super) fn insertion(
    text: &str,
    document: &Node,
    role: Role,
    addresses: &[IpAddr],
) -> Result<(usize, String), EditError> {
    let spec = document.get("spec").ok_or(EditError::NoHosts)?;
    let field = match role {
        Role::Master => MASTERS,
        Role::Node => NODES,
    };
    let Some(hosts) = spec.get(field) else {
        return new_field(text, spec, field, addresses);
    };
    let list = hosts.get(LIST).ok_or(EditError::Unusual)?;
    if let Some(insertion) = behind_the_last(text, list, addresses) {
        return Ok(insertion);
    }
    if !is_flow(text, list) {
        return Err(EditError::Unusual);
    }
    Ok((list.span.start + 1, joined(addresses)))
}

/// What is written in which place so that hosts go, those for whose items `goes` holds.
pub(super) fn replacements(
    text: &str,
    document: &Node,
    goes: impl Fn(&Node) -> bool,
) -> Result<Vec<(Range<usize>, &'static str)>, EditError> {
    let mut replaced = Vec::new();
    for entry in list_entries(document) {
        let list = &entry.value;
        let items = list.items();
        let gone: Vec<usize> = (0..items.len()).filter(|&item| goes(&items[item])).collect();
        if gone.len() < items.len() || gone.is_empty() {
            replaced.extend(cuts_of(text, list, &gone)?.into_iter().map(|cut| (cut, "")));
        } else if is_flow(text, list) {
            replaced.push((list.span.start..whole_end(text, list), "[]"));
        } else {
            let colon = text[entry.key_span.end..].find(':').ok_or(EditError::Unusual)?;
            let behind = entry.key_span.end + colon + 1;
            replaced.push((behind..behind, " []"));
            // What is said between the hosts stays.
            replaced.extend(cuts_of(text, list, &gone)?.into_iter().map(|cut| (cut, "")));
        }
    }
    Ok(replaced)
}

/// The lists of addresses.
pub(super) fn lists(document: &Node) -> impl Iterator<Item = &Node> {
    list_entries(document).map(|entry| &entry.value)
}

fn list_entries(document: &Node) -> impl Iterator<Item = &Entry> {
    let hosts = [MASTERS, NODES].into_iter();
    let hosts = hosts.filter_map(|field| document.get("spec")?.get(field));
    hosts.filter_map(|hosts| hosts.entries().iter().find(|entry| entry.key == LIST))
}

/// The field `field`, behind the other one.
fn new_field(
    text: &str,
    spec: &Node,
    field: &str,
    addresses: &[IpAddr],
) -> Result<(usize, String), EditError> {
    let mut entries = spec.entries().iter();
    let other = entries.find(|entry| [MASTERS, NODES].contains(&entry.key.as_str()));
    let other = other.ok_or(EditError::NoHosts)?;
    let (end, list) = (whole_end(text, &other.value), joined(addresses));
    if is_flow(text, spec) {
        return Ok((end, format!(", {field}: {{ {LIST}: [{list}] }}")));
    }
    let start = line_start(text, other.key_span.start);
    let lead = &text[start..other.key_span.start];
    if !lead.trim().is_empty() {
        return Err(EditError::Unusual);
    }
    Ok((
        line_end(text, end),
        format!("\n{lead}{field}:\n{lead}  {LIST}: [{list}]"),
    ))
}
