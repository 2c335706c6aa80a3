//! Adds hosts to the text of a Clusterfile, takes hosts out of it, and gives it another image. Everything else stays as it is: comments, layout,
//! the order of fields.

use std::net::IpAddr;
use std::ops::Range;

use gantry_model::ImageReference;

use super::tree::{self, Node, Value};
use super::{Clusterfile, Role};

/// What became another line of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The host.
    pub address: IpAddr,
    /// Where it is now, or was: a line, counted from 1.
    pub line: usize,
}

/// Why a text cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It has no list to put hosts into or take them from.
    #[error("it has no list `spec.hosts` that could be edited")]
    NoHosts,
    /// It has no image.
    #[error("it has no `spec.image` that could be edited")]
    NoImage,
    /// It has the host already.
    #[error("{0} is in it already")]
    Present(IpAddr),
    /// It does not have the host, or has it in another role.
    #[error("no {role} of it is {address}")]
    Absent {
        /// The host.
        address: IpAddr,
        /// The role it was to have.
        role: &'static str,
    },
    /// It would be without a master.
    #[error("it would have no master left")]
    NoMaster,
    /// The result would have a mistake.
    #[error("it would have a mistake then: {0}; change it by hand")]
    Mistaken(String),
    /// The result would not mean what it should.
    #[error("its hosts are written in a way that only a person can change")]
    Unusual,
}

/// `text` with `addresses` as further hosts of this role.
///
/// # Errors
/// When one is there already, or the text cannot be edited.
pub fn add(text: &str, role: Role, addresses: &[IpAddr]) -> Result<(String, Vec<Change>), EditError> {
    let before = meaning(text)?;
    if let Some(host) = before.hosts.iter().find(|host| addresses.contains(&host.address)) {
        return Err(EditError::Present(host.address));
    }
    let document = cluster_document(text)?;
    let groups = groups(&document)?;
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
    let (at, inserted) = match list.and_then(|list| Some((list, list.items().last()?))) {
        Some((list, last)) if is_flow(text, list) => {
            let more: String = addresses.iter().map(|address| format!(", {address}")).collect();
            (last.span.end, more)
        }
        Some((_, last)) => {
            let lead = lead(text, last.span.start);
            let more = addresses
                .iter()
                .map(|address| format!("\n{lead}{address}"))
                .collect();
            (line_end(text, last.span.end), more)
        }
        None => new_group(text, groups, role, addresses)?,
    };
    let mut edited = text.to_owned();
    edited.insert_str(at, &inserted);
    let mut expected = before;
    let hosts = addresses.iter().map(|&address| super::Host {
        address,
        role,
        env: Default::default(),
        marks: Default::default(),
        hostname: None,
    });
    expected.hosts.extend(hosts);
    checked(&edited, expected, addresses)?;
    let line = |address: &IpAddr| {
        let place = inserted.find(&address.to_string()).unwrap_or_default();
        line_of(&edited, at + place)
    };
    let changes = addresses.iter().map(|address| Change {
        address: *address,
        line: line(address),
    });
    let changes = changes.collect();
    Ok((edited, changes))
}

/// `text` without `addresses`, which are hosts of this role.
///
/// # Errors
/// When one is not, or the text cannot be edited.
pub fn remove(text: &str, role: Role, addresses: &[IpAddr]) -> Result<(String, Vec<Change>), EditError> {
    let mut expected = meaning(text)?;
    for &address in addresses {
        if !expected
            .hosts
            .iter()
            .any(|host| host.address == address && host.role == role)
        {
            let role = word(role);
            return Err(EditError::Absent { address, role });
        }
    }
    expected.hosts.retain(|host| !addresses.contains(&host.address));
    if expected.hosts.iter().all(|host| host.role != Role::Master) {
        return Err(EditError::NoMaster);
    }
    let document = cluster_document(text)?;
    let groups = groups(&document)?;
    let goes = |item: &Node| {
        item.text()
            .and_then(|text| text.parse().ok())
            .is_some_and(|ip| addresses.contains(&ip))
    };
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let mut changes = Vec::new();
    let mut emptied = Vec::new();
    for (index, group) in groups.items().iter().enumerate() {
        let Some(list) = group.get("ips") else { continue };
        let gone: Vec<usize> = (0..list.items().len())
            .filter(|&item| goes(&list.items()[item]))
            .collect();
        changes.extend(gone.iter().filter_map(|&item| {
            let item = &list.items()[item];
            Some(Change {
                address: item.text()?.parse().ok()?,
                line: line_of(text, item.span.start),
            })
        }));
        if gone.len() == list.items().len() && !gone.is_empty() {
            emptied.push(index);
        } else {
            cuts.extend(cuts_of(text, list, &gone)?);
        }
    }
    cuts.extend(cuts_of(text, groups, &emptied)?);
    cuts.sort_by_key(|cut| std::cmp::Reverse(cut.start));
    let mut edited = text.to_owned();
    for cut in cuts {
        edited.replace_range(cut, "");
    }
    checked(&edited, expected, &[])?;
    Ok((edited, changes))
}

/// `text` with `image` as its image, and the line where that stands.
///
/// # Errors
/// When the text cannot be edited.
pub fn set_image(text: &str, image: &ImageReference) -> Result<(String, usize), EditError> {
    let mut expected = meaning(text)?;
    let document = cluster_document(text)?;
    let node = document.get("spec").and_then(|spec| spec.get("image"));
    let span = node.ok_or(EditError::NoImage)?.span.clone();
    let mut edited = text.to_owned();
    edited.replace_range(span.clone(), &image.to_string());
    expected.image = image.clone();
    checked(&edited, expected, &[]).map_err(|_| EditError::NoImage)?;
    Ok((edited, line_of(text, span.start)))
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Node => "node",
    }
}

fn meaning(text: &str) -> Result<Clusterfile, EditError> {
    Clusterfile::parse("Clusterfile", text)
        .map(|(clusterfile, _)| clusterfile)
        .map_err(|_| EditError::Unusual)
}

fn first_of(mistakes: &super::Mistakes) -> String {
    let first = mistakes.list().first();
    first.map_or_else(|| mistakes.to_string(), |mistake| mistake.message.clone())
}

/// An edited text has to say what it said before, but for the hosts. Their order may differ: it is that of the groups.
fn checked(edited: &str, mut expected: Clusterfile, added: &[IpAddr]) -> Result<(), EditError> {
    let mut found = Clusterfile::parse("Clusterfile", edited)
        .map(|(clusterfile, _)| clusterfile)
        .map_err(|mistakes| EditError::Mistaken(first_of(&mistakes)))?;
    for clusterfile in [&mut found, &mut expected] {
        clusterfile.hosts.sort_by_key(|host| host.address);
        // Which hosts they are for follows from the hosts.
        clusterfile.commands.clear();
    }
    // Plugins may have something to say about a host that is new.
    for (host, found) in expected.hosts.iter_mut().zip(&found.hosts) {
        if added.contains(&host.address) && host.address == found.address {
            host.marks.clone_from(&found.marks);
            host.hostname.clone_from(&found.hostname);
        }
    }
    if found == expected {
        Ok(())
    } else {
        Err(EditError::Unusual)
    }
}

fn cluster_document(text: &str) -> Result<Node, EditError> {
    let mut documents = tree::parse(text).0.into_iter();
    let is_cluster = |node: &Node| node.get("kind").and_then(Node::text) == Some("Cluster");
    documents.find(is_cluster).ok_or(EditError::NoHosts)
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
    let ips: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let (ips, role) = (ips.join(", "), word(role));
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

/// What to cut out of `text`, so that the list loses the items of these numbers; others stay in it.
fn cuts_of(text: &str, list: &Node, gone: &[usize]) -> Result<Vec<Range<usize>>, EditError> {
    let items = list.items();
    let flow = is_flow(text, list);
    gone.iter()
        .map(|&index| {
            let item = &items[index];
            if flow {
                // With the comma before it, or behind it where all before it go as well.
                let stays_before = (0..index).any(|before| !gone.contains(&before));
                return Ok(if stays_before {
                    whole_end(text, &items[index - 1])..whole_end(text, item)
                } else {
                    item.span.start
                        ..items
                            .get(index + 1)
                            .map_or_else(|| whole_end(text, item), |next| next.span.start)
                });
            }
            let start = line_start(text, item.span.start);
            if text[start..item.span.start].trim() != "-" {
                return Err(EditError::Unusual);
            }
            let end = line_end(text, whole_end(text, item));
            Ok(start..(end + 1).min(text.len()))
        })
        .collect()
}

/// Whether a list or mapping is written in brackets.
fn is_flow(text: &str, node: &Node) -> bool {
    matches!(text.as_bytes().get(node.span.start), Some(b'[' | b'{'))
}

/// Where a node ends, its closing bracket included.
fn whole_end(text: &str, node: &Node) -> usize {
    let last = match &node.value {
        Value::List(items) => items.last(),
        Value::Map(entries) => entries.last().map(|entry| &entry.value),
        Value::Null | Value::Scalar { .. } => return node.span.end,
    };
    let end = last.map_or(node.span.start + usize::from(is_flow(text, node)), |last| {
        whole_end(text, last)
    });
    if !is_flow(text, node) {
        return end;
    }
    let mut comment = false;
    for (at, byte) in text.bytes().enumerate().skip(end) {
        match byte {
            b'\n' => comment = false,
            b'#' => comment = true,
            b']' | b'}' if !comment => return at + 1,
            _ => {}
        }
    }
    end
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Where the line of `at` ends, before its newline.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// What stands before an item of a block list on its line: spaces and a dash.
fn lead(text: &str, item: usize) -> &str {
    &text[line_start(text, item)..item]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# ours\napiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: a:b\n  hosts:\n";

    fn ips(list: &[u8]) -> Vec<IpAddr> {
        list.iter().map(|last| [10, 0, 0, *last].into()).collect()
    }

    fn added(hosts: &str, role: Role, addresses: &[u8]) -> String {
        let (text, _) = add(&format!("{HEAD}{hosts}"), role, &ips(addresses)).unwrap();
        text.strip_prefix(HEAD).unwrap().to_owned()
    }

    fn removed(hosts: &str, role: Role, addresses: &[u8]) -> String {
        let (text, _) = remove(&format!("{HEAD}{hosts}"), role, &ips(addresses)).unwrap();
        text.strip_prefix(HEAD).unwrap().to_owned()
    }

    #[test]
    fn another_image_comes_in_the_place_of_the_first() {
        let file = "spec:\n  image: \"sea.hub:5000/demo:v2\" # ours\n  hosts: [{ips: [10.0.0.2], roles: [master]}]\n";
        let text = format!("kind: Cluster\nmetadata: {{name: demo}}\napiVersion: sealer.io/v2\n{file}");
        let (edited, line) = set_image(&text, &"sea.hub:5000/demo:v1".parse().unwrap()).unwrap();
        assert_eq!(line, 5);
        assert_eq!(
            edited.replace('"', ""),
            text.replace('"', "").replace("demo:v2", "demo:v1")
        );
    }

    #[test]
    fn hosts_come_behind_the_others_of_their_role() {
        let flow = "    - ips: [10.0.0.2] # the first\n      roles: [master]\n    - { ips: [ 10.0.0.3, 10.0.0.4 ], roles: [ node ] }\n";
        assert_eq!(
            added(flow, Role::Node, &[5, 6]),
            flow.replace("10.0.0.4 ]", "10.0.0.4, 10.0.0.5, 10.0.0.6 ]")
        );
        let block = "    - roles: [master]\n      ips:\n        - 10.0.0.2 # rack 1\n        # rack 2\n        - \"10.0.0.3\"   # old\n";
        assert_eq!(
            added(block, Role::Master, &[4]),
            format!("{block}        - 10.0.0.4\n")
        );
    }

    #[test]
    fn a_role_that_has_no_plain_group_gets_one() {
        let special = "    - ips: [10.0.0.2]\n      roles: [master]\n    - ips: [10.0.0.3]\n      roles: [node]\n      env: [POOL=gpu]\n";
        assert_eq!(
            added(special, Role::Node, &[4]),
            format!("{special}    - ips: [10.0.0.4]\n      roles: [node]\n")
        );
        let flow = "    [ { ips: [10.0.0.2], roles: [master] } ]\n";
        assert_eq!(
            added(flow, Role::Node, &[4]),
            "    [ { ips: [10.0.0.2], roles: [master] }, { ips: [10.0.0.4], roles: [node] } ]\n"
        );
        let cut = "    - ips: [10.0.0.2]\n      roles: [master]";
        assert_eq!(
            added(cut, Role::Node, &[4]),
            format!("{cut}\n    - ips: [10.0.0.4]\n      roles: [node]")
        );
    }

    #[test]
    fn hosts_go_and_leave_no_gap() {
        let flow = "    - ips: [10.0.0.2, 10.0.0.3, 10.0.0.4]\n      roles: [master]\n";
        assert_eq!(removed(flow, Role::Master, &[2]), flow.replace("10.0.0.2, ", ""));
        assert_eq!(
            removed(flow, Role::Master, &[2, 3]),
            flow.replace("10.0.0.2, 10.0.0.3, ", "")
        );
        assert_eq!(
            removed(flow, Role::Master, &[3, 4]),
            flow.replace(", 10.0.0.3, 10.0.0.4", "")
        );
        assert_eq!(
            removed(flow, Role::Master, &[2, 4]),
            "    - ips: [10.0.0.3]\n      roles: [master]\n"
        );
        let block = "    - ips: [10.0.0.2]\n      roles: [master]\n    # workers\n    - ips:\n        - 10.0.0.3 # rack 1\n        - 10.0.0.4\n      roles: [node]\n";
        assert_eq!(
            removed(block, Role::Node, &[3]),
            block.replace("        - 10.0.0.3 # rack 1\n", "")
        );
        assert_eq!(
            removed(block, Role::Node, &[3, 4]),
            "    - ips: [10.0.0.2]\n      roles: [master]\n    # workers\n"
        );
        let spread = "    - roles: [node]\n      ips: [\n        10.0.0.3, # ]\n      ]\n    - ips: [10.0.0.2]\n      roles: [master]\n---\nkind: KubeletConfiguration\nmaxPods: 100 # few\n";
        assert_eq!(
            removed(spread, Role::Node, &[3]),
            "    - ips: [10.0.0.2]\n      roles: [master]\n---\nkind: KubeletConfiguration\nmaxPods: 100 # few\n"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let text = format!("{HEAD}    - ips: [10.0.0.2]\n      roles: [master]\n");
        let [two, three] = [2, 3].map(|last| ips(&[last]));
        assert_eq!(add(&text, Role::Node, &two), Err(EditError::Present(two[0])));
        assert_eq!(remove(&text, Role::Master, &two), Err(EditError::NoMaster));
        let absent = |role| EditError::Absent {
            address: three[0],
            role,
        };
        assert_eq!(remove(&text, Role::Node, &three), Err(absent("node")));
        let (_, changes) = add(&text, Role::Master, &three).unwrap();
        assert_eq!(
            changes,
            [Change {
                address: three[0],
                line: 8
            }]
        );
    }

    #[test]
    fn plugins_may_speak_of_a_host_that_comes_and_keep_one_that_they_name() {
        let hosts = "    - { ips: [10.0.0.2], roles: [master] }\n    - { ips: [10.0.0.3], roles: [node] }\n    \
                     - { ips: [10.0.0.4], roles: [node, db] }\n";
        let plugin = |addresses: &str| {
            format!(
                "---\nkind: Plugin\nmetadata: {{ name: a }}\nspec: {{ type: LABEL, action: PreGuest, data: \"{addresses} \
                 disk=ssd\" }}\n---\nkind: Plugin\nmetadata: {{ name: b }}\nspec: {{ type: SHELL, action: PreInit, on: \
                 \"{addresses}\", data: \"true\" }}\n"
            )
        };
        let ranges = format!("{hosts}{}", plugin("10.0.0.3-10.0.0.9"));
        assert!(added(&ranges, Role::Node, &[5]).contains("[10.0.0.3, 10.0.0.5]"));
        assert!(!removed(&ranges, Role::Node, &[3]).contains("[10.0.0.3]"));
        let named = format!("{HEAD}{hosts}{}", plugin("10.0.0.3"));
        assert_eq!(
            remove(&named, Role::Node, &ips(&[3])),
            Err(EditError::Mistaken("10.0.0.3 is no host of this file".into()))
        );
    }
}
