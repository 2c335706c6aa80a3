//! Networks this host has addresses in or routes to: what pods and services must not take the addresses of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gantry_model::{HostNetwork, IpRange};
use sysinfo::Networks;

/// Most networks a host reports: a router with a full table of the internet would fill the message.
const MAX_NETWORKS: usize = 256;

/// The networks of this host.
pub(super) fn networks() -> Vec<HostNetwork> {
    let interfaces = Networks::new_with_refreshed_list()
        .inspect_err(|error| tracing::warn!("cannot read the host's interfaces: {error}"));
    let addresses = interfaces.iter().flatten().flat_map(|(interface, data)| {
        let range = |network: &sysinfo::IpNetwork| IpRange::new(network.addr, network.prefix);
        let ranges = data.ip_networks().iter().filter_map(range);
        let interface = interface.to_string_lossy();
        ranges.map(move |range| (range, interface.clone().into_owned()))
    });
    let (v4, v6) = (
        super::read("/proc/net/route"),
        super::read("/proc/net/ipv6_route"),
    );
    let routes = v4
        .lines()
        .filter_map(ipv4_route)
        .chain(v6.lines().filter_map(ipv6_route));
    let mut networks: Vec<HostNetwork> = addresses
        .chain(routes)
        .filter(|(range, interface)| counts(range, interface))
        .map(|(range, interface)| HostNetwork { range, interface })
        .collect();
    // The largest first: they are what most is lost with.
    networks.sort_by(|a, b| (a.range.prefix(), a).cmp(&(b.range.prefix(), b)));
    networks.dedup();
    networks.truncate(MAX_NETWORKS);
    networks
}

/// Whether somebody may be reached there who is not this host, and not everybody.
fn counts(range: &IpRange, interface: &str) -> bool {
    let special = match range.address() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_multicast(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()
        }
    };
    range.prefix() > 0 && !special && interface != "lo"
}

/// A line of `/proc/net/route` (proc_pid_net(5)): numbers in hex, in the byte order of the host.
fn ipv4_route(line: &str) -> Option<(IpRange, String)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [interface, destination, _, _, _, _, _, mask, ..] = words[..] else {
        return None;
    };
    let number = |text| u32::from_str_radix(text, 16).ok();
    let address = Ipv4Addr::from(number(destination)?.to_ne_bytes());
    let prefix = u8::try_from(number(mask)?.count_ones()).ok()?;
    Some((IpRange::new(address.into(), prefix)?, interface.to_owned()))
}

/// A line of `/proc/net/ipv6_route`: numbers in hex, in the byte order of the network.
fn ipv6_route(line: &str) -> Option<(IpRange, String)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (destination, prefix, interface) = (words.first()?, words.get(1)?, words.last()?);
    let address = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
    let prefix = u8::from_str_radix(prefix, 16).ok()?;
    Some((IpRange::new(address.into(), prefix)?, (*interface).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let hex = |address: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(address.octets()));
        let line = format!(
            "eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0",
            hex(Ipv4Addr::new(192, 0, 2, 0)),
            hex(Ipv4Addr::new(255, 255, 255, 0))
        );
        assert_eq!(
            ipv4_route(&line),
            Some(("192.0.2.0/24".parse().unwrap(), "eth0".to_owned()))
        );
        assert_eq!(
            ipv4_route("Iface Destination Gateway Flags RefCnt Use Metric Mask MTU"),
            None
        );
        let line = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0";
        assert_eq!(
            ipv6_route(line),
            Some(("fd00::/64".parse().unwrap(), "eth0".to_owned()))
        );
    }

    #[test]
    fn what_everybody_has_does_not_count() {
        let counts = |range: &str| counts(&range.parse().unwrap(), "eth0");
        assert!(counts("10.0.0.0/8") && counts("fd00::/64"));
        for range in [
            "0.0.0.0/0",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "fe80::/64",
            "ff00::/8",
            "::/0",
        ] {
            assert!(!counts(range), "{range}");
        }
    }
}
