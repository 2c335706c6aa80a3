//! Which hosts of a file a plugin is about.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::clusterfile::Host;
use crate::clusterfile::mistake::Mistake;
use crate::clusterfile::spelling::closest;
use crate::clusterfile::tree::Span;

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
