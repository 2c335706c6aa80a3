//! Whether a cluster that was applied from here is the one that is meant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use gantry_model::ExitCode;

use crate::clusterfile::{Clusterfile, Role};
use crate::exit::failure_hint;
use crate::state::{State, known_clusters};

/// How a cluster that is there is changed. Not by the copy in the state: that has no secrets, and what Configs say counts as such.
const BY_FILE: &str = "write the file with --print >Clusterfile, then `gantry apply -f Clusterfile`";

/// Refuses a cluster that has other hosts, or another image: `gantry run` makes clusters and goes on making them.
///
/// # Errors
/// When it has; the message names what differs, and the commands that change it.
pub(super) fn or_refuse(state: &State, clusterfile: &Clusterfile) -> anyhow::Result<()> {
    let name = &clusterfile.name;
    if !known_clusters(state)?.contains(name) {
        return Ok(());
    }
    let plan = state.cluster(name).plan()?;
    let there = plan.hosts.iter().filter(|host| host.place.is_to_stay());
    let before: BTreeMap<IpAddr, bool> = there.map(|host| (host.address, host.etcd)).collect();
    let hosts = clusterfile.hosts.iter();
    let wanted: BTreeMap<IpAddr, bool> = hosts
        .map(|host| (host.address, host.role == Role::Master))
        .collect();
    let role = |master: bool| if master { "master" } else { "node" };
    let mut differences = Vec::new();
    for (address, &master) in &wanted {
        match before.get(address) {
            None => differences.push(format!("{address} is not in it")),
            Some(&is) if is != master => differences.push(format!("{address} is a {} of it", role(is))),
            Some(_) => {}
        }
    }
    let missing = before.keys().filter(|address| !wanted.contains_key(address));
    differences.extend(missing.map(|address| format!("{address} is in it, too")));
    if !differences.is_empty() {
        return Err(failure_hint(
            ExitCode::Input,
            format!(
                "cluster {name} is there already, with other hosts: {}; nothing was changed",
                shortened(&differences)
            ),
            format!(
                "to bring these hosts in and let others leave, {BY_FILE}; for another cluster give another --name"
            ),
        ));
    }
    match &plan.image {
        Some(image) if image.reference != clusterfile.image => Err(failure_hint(
            ExitCode::Input,
            format!(
                "cluster {name} is there already, with image {}; nothing was changed",
                image.reference
            ),
            format!("to upgrade it, {BY_FILE}; for another cluster give another --name"),
        )),
        _ => Ok(()),
    }
}

/// The first of many.
fn shortened(differences: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = differences[..differences.len().min(SHOWN)].join(", ");
    if differences.len() > SHOWN {
        text.push_str(&format!(" and {} more", differences.len() - SHOWN));
    }
    text
}
