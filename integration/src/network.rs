//! The network of a testbed: a switch in its own network namespace, and a cable from it to every machine.
//! The machine the tests run on has no part in it, so its addresses, routes and firewall stay as they are.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::{command, slot::Slot};

/// The last byte of the operator's address.
pub const OPERATOR: u8 = 1;

/// What a cable is like.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Rate in each direction, in megabits per second; none for as fast as it goes.
    pub rate_mbit: Option<u32>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            mtu: 1500,
            rate_mbit: None,
        }
    }
}

/// A switch with cables to machines.
#[derive(Debug)]
pub struct Network {
    switch: String,
    link: Link,
}

/// The machine's end of a cable: the name of its network namespace, and its address.
#[derive(Debug, Clone)]
pub struct Port {
    /// Network namespace in which the interface `host0` is.
    pub namespace: String,
    /// Address of `host0`.
    pub address: Ipv4Addr,
    /// The switch's end: its network namespace and interface.
    switch: (String, String),
}

impl Network {
    /// Creates the switch.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn create(slot: &Slot, link: Link) -> Result<Self> {
        let switch = slot.name("switch");
        command::must("ip", ["netns", "add", &switch])?;
        ip(&switch, &format!("link add switch mtu {} type bridge", link.mtu))?;
        ip(&switch, "link set switch up")?;
        Ok(Self { switch, link })
    }

    /// Plugs a new machine in: its namespace, a cable, an address.
    ///
    /// # Errors
    /// When `ip` or `tc` fails.
    pub fn plug_in(&self, slot: &Slot, machine: &str, last: u8) -> Result<Port> {
        let namespace = slot.name(machine);
        let address = slot.address(last);
        let cable = format!("cable{last}");
        let mtu = self.link.mtu;
        command::must("ip", ["netns", "add", &namespace])?;
        ip(
            &self.switch,
            &format!("link add {cable} mtu {mtu} type veth peer name host0 mtu {mtu} netns {namespace}"),
        )?;
        ip(&self.switch, &format!("link set {cable} master switch up"))?;
        ip(&namespace, &format!("addr add {address}/24 dev host0"))?;
        ip(&namespace, "link set lo up")?;
        ip(&namespace, "link set host0 up")?;
        if let Some(rate) = self.link.rate_mbit {
            for (place, device) in [(&self.switch, cable.as_str()), (&namespace, "host0")] {
                let shaping =
                    format!("qdisc add dev {device} root tbf rate {rate}mbit burst 256kb latency 50ms");
                command::must("tc", ["-n", place].into_iter().chain(shaping.split(' ')))?;
            }
        }
        if last != OPERATOR {
            // A machine without a default route takes some paths (docker, kubeadm) that no real one would.
            ip(
                &namespace,
                &format!("route add default via {}", slot.address(OPERATOR)),
            )?;
        }
        Ok(Port {
            namespace,
            address,
            switch: (self.switch.clone(), cable),
        })
    }
}

impl Port {
    /// Drops every UDP packet that arrives here, as many firewalls do.
    ///
    /// # Errors
    /// When `iptables` fails.
    pub fn block_udp(&self) -> Result<()> {
        self.firewall("-A").map(drop)
    }

    /// Lets UDP packets in again.
    ///
    /// # Errors
    /// When `iptables` fails.
    pub fn allow_udp(&self) -> Result<()> {
        self.firewall("-D").map(drop)
    }

    /// Pulls the cable out of the switch.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn unplug(&self) -> Result<()> {
        let (switch, cable) = &self.switch;
        ip(switch, &format!("link set {cable} down")).map(drop)
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug_in_again(&self) -> Result<()> {
        let (switch, cable) = &self.switch;
        ip(switch, &format!("link set {cable} up")).map(drop)
    }

    /// Bytes that arrived over this cable since it was plugged in, headers and repetitions included.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn received_bytes(&self) -> Result<u64> {
        let text = command::must("ip", ["-n", &self.namespace, "-s", "-j", "link", "show", "host0"])?;
        let links: serde_json::Value = serde_json::from_str(&text).context("`ip -j` printed no JSON")?;
        links[0]["stats64"]["rx"]["bytes"]
            .as_u64()
            .context("`ip -s -j` counts no received bytes")
    }

    fn firewall(&self, change: &str) -> Result<String> {
        let rule = [
            "netns",
            "exec",
            &self.namespace,
            "iptables",
            "-w",
            change,
            "INPUT",
            "-i",
            "host0",
            "-p",
            "udp",
            "-j",
            "DROP",
        ];
        command::must("ip", rule)
    }
}

fn ip(namespace: &str, words: &str) -> Result<String> {
    command::must("ip", ["-n", namespace].into_iter().chain(words.split(' ')))
}
