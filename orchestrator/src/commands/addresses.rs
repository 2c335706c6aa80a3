//! This module owns [`Addresses`]: hosts as people write them on a command line: `10.0.0.2,10.0.0.5-10.0.0.9`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Most hosts of one range: a slip of a digit should not become a plan for a million.
const MAX_IN_A_RANGE: u128 = 1024;

/// Hosts by address, each once, in the order in which they were named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses(pub(super) Vec<IpAddr>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('-') {
                Some((first, last)) => addresses.extend(range(address(first)?, address(last)?)?),
                None => addresses.push(address(part)?),
            }
        }
        let mut seen = BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        Ok(Self(addresses))
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| {
        if text.parse::<u32>().is_ok() {
            return format!("{text:?} is a number: hosts are not created, name each by its address");
        }
        if text.parse::<SocketAddr>().is_ok() {
            return format!("{text:?} has a port; leave it out: agents are found by --agent-port");
        }
        format!("{text:?} is no address of a host")
    })
}

fn range(first: IpAddr, last: IpAddr) -> Result<Vec<IpAddr>, String> {
    let (from, to): (u128, u128) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(first).into(), u32::from(last).into()),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.into(), last.into()),
        _ => return Err(format!("{first}-{last} is no range: its ends are of two kinds")),
    };
    if to < from {
        return Err(format!("{first}-{last} ends before it begins"));
    }
    if to - from >= MAX_IN_A_RANGE {
        return Err(format!("{first}-{last} has more than {MAX_IN_A_RANGE} addresses"));
    }
    let address = |number: u128| match first {
        IpAddr::V4(_) => u32::try_from(number)
            .ok()
            .map(|number| Ipv4Addr::from(number).into()),
        IpAddr::V6(_) => Some(Ipv6Addr::from(number).into()),
    };
    Ok((from..=to).filter_map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_listed_or_counted() {
        let read = |text: &str| {
            text.parse::<Addresses>()
                .map(|found| found.0.iter().map(ToString::to_string).collect())
        };
        let list = |addresses: &[&str]| Ok(addresses.iter().map(|&one| one.to_owned()).collect::<Vec<_>>());
        assert_eq!(
            read("10.0.0.9,10.0.0.254-10.0.1.1, 10.0.0.9"),
            list(&["10.0.0.9", "10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"])
        );
        assert_eq!(read("fd00::1-fd00::2"), list(&["fd00::1", "fd00::2"]));
        for odd in [
            "host1",
            "10.0.0.2-10.0.0.1",
            "10.0.0.0-10.9.0.0",
            "10.0.0.1-fd00::1",
            "10.0.0.1-3",
        ] {
            assert!(read(odd).is_err(), "{odd}");
        }
    }
}
