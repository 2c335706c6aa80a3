//! Plugins whose lines name hosts and say something about them: labels, taints, names.

use gantry_model::NodeMarks;

use super::lines::{Line, lines};
use super::{Plugin, select};
use crate::clusterfile::Clusterfile;
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::tree::Span;
use crate::plan::is_node_name;

/// Longest name of a host, in bytes (`HOST_NAME_MAX` of Linux).
const MAX_HOSTNAME_LEN: usize = 64;

/// Lines of `ADDRESSES MARK,MARK`.
pub(super) fn mark(
    plugin: &Plugin<'_>,
    text: &str,
    clusterfile: &mut Clusterfile,
    mistakes: &mut Vec<Mistake>,
    put: impl Fn(&str, &Span, &mut NodeMarks) -> Result<(), Mistake>,
) {
    for (line, hosts, given) in hosts_of_lines(plugin, text, clusterfile, mistakes) {
        for one in given.split(',').map(str::trim) {
            let wrong = hosts
                .iter()
                .find_map(|&host| put(one, &line.span, &mut clusterfile.hosts[host].marks).err());
            mistakes.extend(wrong);
        }
    }
}

/// Lines of `ADDRESS NAME`.
pub(super) fn rename(
    plugin: &Plugin<'_>,
    text: &str,
    clusterfile: &mut Clusterfile,
    mistakes: &mut Vec<Mistake>,
) {
    for (line, hosts, name) in hosts_of_lines(plugin, text, clusterfile, mistakes) {
        let wrong = |message: String| Mistake::new(line.span.clone(), message);
        let [host] = hosts[..] else {
            mistakes.push(
                wrong(format!("{name} would be the name of {} hosts", hosts.len())).help(form(plugin.kind)),
            );
            continue;
        };
        let small = name.to_lowercase();
        if !is_node_name(name) || name != small || name.len() > MAX_HOSTNAME_LEN {
            let mistake = wrong(format!("{name:?} cannot be the name of a host and its node"));
            mistakes.push(if is_node_name(&small) && small.len() <= MAX_HOSTNAME_LEN {
                mistake.help(format!("did you mean `{small}`?"))
            } else {
                mistake
                    .help("up to 64 small letters, digits, '-' and '.', with a letter or digit at both ends")
            });
            continue;
        }
        let other = clusterfile
            .hosts
            .iter()
            .find(|host| host.hostname.as_deref() == Some(name));
        if let Some(other) = other.filter(|other| other.address != clusterfile.hosts[host].address) {
            let message = format!("{name} is the name of {} already", other.address);
            mistakes.push(wrong(message).help("every host has a name of its own"));
            continue;
        }
        let host = &mut clusterfile.hosts[host];
        if let Some(before) = host
            .hostname
            .replace(name.to_owned())
            .filter(|before| before != name)
        {
            mistakes
                .push(wrong(format!("{} is {before} already", host.address)).help("keep one of the names"));
        }
    }
}

/// The lines of a plugin, the hosts that each names (by their place), and what it says about them.
fn hosts_of_lines<'a>(
    plugin: &Plugin<'a>,
    text: &str,
    clusterfile: &Clusterfile,
    mistakes: &mut Vec<Mistake>,
) -> Vec<(Line<'a>, Vec<usize>, &'a str)> {
    for field in ["on", "scope"] {
        if let Some(given) = plugin.spec.get(field) {
            let message = format!("`spec.{field}` means nothing for type {}", plugin.kind);
            let mistake = Mistake::new(given.span.clone(), message);
            mistakes.push(mistake.help("the lines of `spec.data` name the hosts"));
        }
    }
    let Some(data) = plugin.spec.get("data") else {
        let message = format!("`spec.data` is missing; type {} needs it", plugin.kind);
        mistakes.push(Mistake::new(plugin.spec.span.clone(), message).help(form(plugin.kind)));
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in lines(data, text) {
        let Some((addresses, given)) = line.text.split_once(char::is_whitespace) else {
            let message = format!(
                "{:?} is not a line of a plugin of type {}",
                line.text, plugin.kind
            );
            mistakes.push(Mistake::new(line.span, message).help(form(plugin.kind)));
            continue;
        };
        match select::by_address(addresses, &line.span, &clusterfile.hosts) {
            Ok(hosts) => found.push((line, hosts, given.trim())),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    found
}

fn form(kind: &str) -> &'static str {
    match kind {
        "LABEL" => "write ADDRESS KEY=VALUE,KEY=VALUE in each line, e.g. `10.0.0.5 disk=ssd`",
        "HOSTNAME" => "write ADDRESS NAME in each line, e.g. `10.0.0.5 db-1`",
        _ => "write ADDRESS KEY=VALUE:EFFECT in each line, e.g. `10.0.0.5 dedicated=db:NoSchedule`",
    }
}
