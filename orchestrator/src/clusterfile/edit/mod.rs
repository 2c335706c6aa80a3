//! Adds hosts to the text of a Clusterfile, takes hosts out of it, and gives it another image. Everything else stays as it
//! is: comments, layout, the order of fields.

mod groups;
mod ip_lists;
mod lists;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::Range;

use gantry_model::ImageReference;

use super::tree::{self, Node};
use super::validate::first_version::{self, address_of};
use super::{Clusterfile, Role};
use lists::line_of;

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
    #[error("it has no list of hosts that could be edited")]
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
    let (at, inserted) = if first_version::is(&document) {
        ip_lists::insertion(text, &document, role, addresses)?
    } else {
        groups::insertion(text, &document, role, addresses)?
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
    let goes = |item: &Node| address_of(item).is_some_and(|address| addresses.contains(&address));
    let (mut replaced, lists): (Vec<(Range<usize>, &str)>, Vec<&Node>) = if first_version::is(&document) {
        let replaced = ip_lists::replacements(text, &document, goes)?;
        (replaced, ip_lists::lists(&document).collect())
    } else {
        let cuts = groups::cuts(text, &document, goes)?;
        let replaced = cuts.into_iter().map(|cut| (cut, "")).collect();
        (replaced, groups::lists(&document).collect())
    };
    let gone = lists.into_iter().flat_map(Node::items).filter(|item| goes(item));
    let change = |item: &Node| {
        Some(Change {
            address: address_of(item)?,
            line: line_of(text, item.span.start),
        })
    };
    let changes = gone.filter_map(change).collect();
    replaced.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut edited = text.to_owned();
    for (range, by) in replaced {
        edited.replace_range(range, by);
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
