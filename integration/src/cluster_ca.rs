//! The CAs of a Kubernetes cluster, as they lie on a host.

use anyhow::{Context as _, Result};

use crate::Host;

impl Host {
    /// Fingerprint of the CA that is first in the host's file.
    ///
    /// # Errors
    /// When the host has none.
    pub fn ca_fingerprint(&self) -> Result<String> {
        self.must("openssl x509 -noout -fingerprint -sha256 -in /etc/kubernetes/pki/ca.crt")
    }

    /// How many CAs the host's file holds.
    ///
    /// # Errors
    /// When the host has none.
    pub fn count_of_cas(&self) -> Result<usize> {
        let count = self.must("grep --count BEGIN /etc/kubernetes/pki/ca.crt")?;
        count.trim().parse().context("grep counts")
    }

    /// What lies beside the CAs of the host while one is being replaced; nothing at other times.
    ///
    /// # Errors
    /// When nothing can be run on the host.
    pub fn left_of_ca_replacement(&self) -> Result<String> {
        let left = self.run("ls -d /etc/kubernetes/pki/*next-ca* /etc/kubernetes/pki/signing-ca.crt")?;
        Ok(left.stdout)
    }
}
