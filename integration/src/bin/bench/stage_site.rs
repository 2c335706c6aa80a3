//! Where staging is measured: an operator, one host, one unshaped cable, and memory instead of a disk at the
//! receiving end, so that the figures are those of moving, checking and writing, and not of one disk.

use anyhow::Result;
use gantry_integration::{Link, Options, Testbed};

use crate::ssh_peer::{HOST_PACKAGES, SshKey};

/// The folder of the host that the peers copy into.
pub(crate) const PEERS_FOLDER: &str = "/srv/copies";

/// An operator and a host with a running agent and a running ssh server.
pub(crate) struct StageSite {
    bed: Testbed,
    key: SshKey,
}

impl StageSite {
    /// Boots the host; its cable carries packets of at most `mtu` bytes.
    pub(crate) fn with_mtu(mtu: u32) -> Result<Self> {
        let link = Link { mtu, rate_mbit: None };
        let bed = Testbed::with(&Options {
            hosts: 1,
            link,
            extra_packages: HOST_PACKAGES,
        })?;
        let key = SshKey::create(bed.operator())?;
        let host = bed.host(1);
        for folder in [PEERS_FOLDER, "/var/lib/gantry"] {
            host.must(&format!(
                "mkdir -p {folder} && mount -t tmpfs -o size=8g,mode=755 tmpfs {folder}"
            ))?;
        }
        key.accept_on(host, bed.operator())?;
        host.install_agent()?;
        bed.operator().enroll(&[host])?;
        Ok(Self { bed, key })
    }

    pub(crate) fn bed(&self) -> &Testbed {
        &self.bed
    }

    pub(crate) fn key(&self) -> &SshKey {
        &self.key
    }
}
