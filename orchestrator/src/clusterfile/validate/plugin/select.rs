//! Which hosts of a file a plugin is about.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::super::marks::ROLE_LABEL;
use crate::clusterfile::command::CommandHosts;
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::closest;
use crate::clusterfile::tree::Span;
use crate::clusterfile::{Host, Role};

/// The hosts that `text` names: roles (`master`, `node`, names of others), `master0`, which is the first master, addresses and
/// ranges of them, `LABEL=VALUE`, with ',' or '|' between. Nothing is every host.
pub(super) fn by_word(text: &str, span: &Span, hosts: &[Host]) -> Result<CommandHosts, Mistake> {
    let words: Vec<&str> = text.split([',', '|']).map(str::trim).collect();
    let with_role = |role| hosts.iter().filter(move |host| host.role == role);
    match words[..] {
        [""] | ["master", "node"] | ["node", "master"] => return Ok(CommandHosts::All),
        ["master"] => return Ok(CommandHosts::Role(Role::Master)),
        ["node"] => return Ok(CommandHosts::Role(Role::Node)),
        ["master0"] => return Ok(CommandHosts::FirstMaster),
        _ => {}
    }
    let mut addresses = Vec::new();
    for word in words {
        let found: Vec<IpAddr> = match word {
            "master" => with_role(Role::Master).map(|host| host.address).collect(),
            "node" => with_role(Role::Node).map(|host| host.address).collect(),
            "master0" => with_role(Role::Master).take(1).map(|host| host.address).collect(),
            // An address, or a range of them.
            _ if word.starts_with(|c: char| c.is_ascii_digit()) || word.contains(':') => {
                let places = by_address(word, span, hosts)?;
                places.into_iter().map(|place| hosts[place].address).collect()
            }
            _ => by_label(word, span, hosts)?,
        };
        addresses.extend(
            found
                .into_iter()
                .filter(|address| !addresses.contains(address))
                .collect::<Vec<_>>(),
        );
    }
    Ok(CommandHosts::Listed(addresses))
}

/// The hosts with the label `LABEL=VALUE`, or with the role `word`.
fn by_label(word: &str, span: &Span, hosts: &[Host]) -> Result<Vec<IpAddr>, Mistake> {
    let role = format!("{ROLE_LABEL}{word}");
    let (key, value) = word.split_once('=').unwrap_or((&role, ""));
    let has = |host: &&Host| host.marks.labels.get(key).is_some_and(|own| own == value);
    let found: Vec<IpAddr> = hosts.iter().filter(has).map(|host| host.address).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if word.contains('=') {
        let mistake = Mistake::new(span.clone(), format!("no host of this file has the label {word}"));
        return Err(mistake.help("labels are those of `hosts` and of plugins of type LABEL"));
    }
    let roles = hosts.iter().flat_map(|host| host.marks.labels.keys());
    let roles = roles.filter_map(|label| label.strip_prefix(ROLE_LABEL));
    let mistake = Mistake::new(span.clone(), format!("{word:?} names no host of this file"));
    Err(
        match closest(word, ["master", "node", "master0"].into_iter().chain(roles)) {
            Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
            None => mistake.help("write a role, master0, addresses, a range of them, or LABEL=VALUE"),
        },
    )
}

/// The hosts with the addresses of `list`: addresses and ranges of them (`10.0.0.2-10.0.0.4`), with ',' between. They are
/// told by their place in `hosts`.
pub(super) fn by_address(list: &str, span: &Span, hosts: &[Host]) -> Result<Vec<usize>, Mistake> {
    let mut found = Vec::new();
    for item in list.split(',').map(str::trim) {
        let wrong = |message: String| Mistake::new(span.clone(), message);
        let range = range(item).map_err(|(message, help)| wrong(message).help(help))?;
        let places = hosts.iter().enumerate();
        let inside: Vec<usize> = places
            .filter(|(_, host)| range.contains(&host.address))
            .map(|(place, _)| place)
            .collect();
        if inside.is_empty() {
            let addresses: Vec<String> = hosts.iter().map(|host| host.address.to_string()).collect();
            let mistake = wrong(format!("{item} is no host of this file"));
            return Err(match closest(item, addresses.iter().map(String::as_str)) {
                Some(meant) => mistake.help(format!("did you mean `{meant}`?")),
                None => mistake.help("name hosts of `spec.hosts`, by their addresses"),
            });
        }
        found.extend(
            inside
                .into_iter()
                .filter(|place| !found.contains(place))
                .collect::<Vec<_>>(),
        );
    }
    Ok(found)
}

fn range(text: &str) -> Result<RangeInclusive<IpAddr>, (String, String)> {
    let address = |text: &str| {
        let help = "write addresses, with ',' between them, or ranges: 10.0.0.2-10.0.0.4".to_owned();
        text.trim()
            .parse::<IpAddr>()
            .map_err(|_| (format!("{text:?} is not an address"), help))
    };
    let Some((first, last)) = text.split_once('-') else {
        return address(text).map(|one| one..=one);
    };
    let (first, last) = (address(first)?, address(last)?);
    if first.is_ipv4() != last.is_ipv4() {
        let help = "both ends are IPv4 addresses, or both are IPv6 addresses".to_owned();
        return Err((format!("{text} is not a range"), help));
    }
    if last < first {
        return Err((
            format!("{text} is a range without addresses"),
            format!("did you mean `{last}-{first}`?"),
        ));
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_two_ends_in_order() {
        assert!(range("10.110.101.1-10.110.101.5").is_ok() && range("fd00::1-fd00::4").is_ok());
        for wrong in [
            "10.0.0.5-10.0.0.1",
            "10.0.0.1-10.0.0.2-10.0.0.3",
            "-10.0.0.1",
            "10.0.0.1-",
            "a-b",
            "",
            "10.0.0.1-fd00::1",
        ] {
            assert!(range(wrong).is_err(), "{wrong:?}");
        }
    }
}
