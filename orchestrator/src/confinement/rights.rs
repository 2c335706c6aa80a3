//! This module owns which of root's rights are left to commands in a sandbox.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Rights over files and processes, which are all of the sandbox. Not those over mounts, devices, the kernel or its network, nor
/// the right to open what no path leads to: a command could undo its sandbox with them.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

/// Packets of any kind, and a look at those of others: where there is no other's network.
const OF_OWN_NETWORK: CapabilitySet = CapabilitySet::NET_RAW;

/// Takes all other rights away from all that this process starts. It keeps its own. Whether the network is the machine's says
/// `keeps_network`.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn keep_few(keeps_network: bool) -> io::Result<()> {
    let kept = if keeps_network {
        KEPT
    } else {
        KEPT.union(OF_OWN_NETWORK)
    };
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            // Older kernels know fewer.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // What root inherits is its own whatever the bounding set says (capabilities(7)).
    clear_ambient_capability_set()?;
    let own = capabilities(None)?;
    let own = CapabilitySets {
        inheritable: CapabilitySet::empty(),
        ..own
    };
    Ok(set_capabilities(None, own)?)
}
