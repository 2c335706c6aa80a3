//! Hosts in groups: `spec.hosts`.

use std::net::IpAddr;
use std::ops::Range;

use super::lists::{behind_the_last, cuts_of, is_flow, joined, lead, line_end, whole_end};
use super::{EditError, word};
use crate::clusterfile::Role;
use crate::clusterfile::tree::Node;

/// Where `addresses` come as further hosts of this role, and what is written there.
pub(super) fn insertion(
    text: &str,
    document: &Node,
    role: Role,
    addresses: &[IpAddr],
) -> Result<(usize, String), EditError> {
    let groups = groups(document)?;
    let plain = |group: &&Node| {
        is_of(group, role)
            && group.get("roles").is_some_and(|roles| roles.items().len() == 1)
            && ["env", "labels", "taints"]
                .iter()
                .all(|field| group.get(field).is_none())
    };
    let list = groups
        .items()
        .iter()
        .rfind(plain)
        .and_then(|group| group.get("ips"));
    match list.and_then(|list| behind_the_last(text, list, addresses)) {
        Some(insertion) => Ok(insertion),
        None => new_group(text, groups, role, addresses),
    }
}

/// What is cut so that hosts go, those for whose items `goes` holds.
pub(super) fn cuts(
    text: &str,
    document: &Node,
    goes: impl Fn(&Node) -> bool,
) -> Result<Vec<Range<usize>>, EditError> {
    let groups = groups(document)?;
    let mut cuts = Vec::new();
    let mut emptied = Vec::new();
    for (index, group) in groups.items().iter().enumerate() {
        let Some(list) = group.get("ips") else { continue };
        let items = list.items();
        let gone: Vec<usize> = (0..items.len()).filter(|&item| goes(&items[item])).collect();
        if gone.len() == items.len() && !gone.is_empty() {
            emptied.push(index);
        } else {
            cuts.extend(cuts_of(text, list, &gone)?);
        }
    }
    cuts.extend(cuts_of(text, groups, &emptied)?);
    Ok(cuts)
}

/// The lists of addresses.
pub(super) fn lists(document: &Node) -> impl Iterator<Item = &Node> {
    let groups = groups(document).map(Node::items).unwrap_or_default();
    groups.iter().filter_map(|group| group.get("ips"))
}

fn groups(document: &Node) -> Result<&Node, EditError> {
    let groups = document.get("spec").and_then(|spec| spec.get("hosts"));
    groups
        .filter(|groups| !groups.items().is_empty())
        .ok_or(EditError::NoHosts)
}

fn is_of(group: &Node, role: Role) -> bool {
    let roles = group.get("roles").map(Node::items).unwrap_or_default();
    roles.iter().any(|item| item.text() == Some(word(role)))
}

/// A group of their own, behind the others, for hosts whose role has no group without specialities.
fn new_group(
    text: &str,
    groups: &Node,
    role: Role,
    addresses: &[IpAddr],
) -> Result<(usize, String), EditError> {
    let last = groups.items().last().ok_or(EditError::NoHosts)?;
    let (ips, role) = (joined(addresses), word(role));
    let end = whole_end(text, last);
    if is_flow(text, groups) {
        return Ok((end, format!(", {{ ips: [{ips}], roles: [{role}] }}")));
    }
    let lead = lead(text, last.span.start);
    let below = " ".repeat(lead.len());
    Ok((
        line_end(text, end),
        format!("\n{lead}ips: [{ips}]\n{below}roles: [{role}]"),
    ))
}
