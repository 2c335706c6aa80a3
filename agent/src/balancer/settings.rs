//! This module owns [`Settings`]: where a balancer listens and whom it leads to.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use gantry_protocol::limits::MAX_BACKENDS;
use serde::{Deserialize, Serialize};

/// Longest file of settings, in bytes: far more than its backends need.
const MAX_LEN: u64 = 64 << 10;

/// Where a balancer listens and whom it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// On this host.
    pub(crate) listen: SocketAddr,
    /// API servers, in no order.
    pub(crate) backends: BTreeSet<SocketAddr>,
}

impl Settings {
    pub(crate) fn new(listen: SocketAddr, backends: &[SocketAddr]) -> Self {
        Self {
            listen,
            backends: backends.iter().copied().collect(),
        }
    }

    /// Reads a file of settings.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path)?.len() > MAX_LEN {
            return Err(io::Error::other(format!("it is longer than {MAX_LEN} bytes")));
        }
        serde_json::from_slice(&std::fs::read(path)?).map_err(io::Error::other)
    }

    /// The text of the file.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("settings are plain data") + "\n"
    }
}

/// Whether a balancer can be like this.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(listen: SocketAddr, backends: &[SocketAddr]) -> Result<(), String> {
    if !listen.ip().is_loopback() {
        return Err(format!(
            "a balancer listens on a loopback address, not on {listen}: it serves its own host"
        ));
    }
    if backends.contains(&listen) {
        return Err(format!("a balancer cannot lead to itself ({listen})"));
    }
    if backends.is_empty() || backends.len() > MAX_BACKENDS {
        return Err(format!(
            "a balancer leads to 1 to {MAX_BACKENDS} API servers, not to {}",
            backends.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_serves_its_own_host_and_leads_elsewhere() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        check(at("127.0.0.1:6443"), &[at("10.0.0.2:6443")]).unwrap();
        assert!(check(at("0.0.0.0:6443"), &[at("10.0.0.2:6443")]).is_err());
        assert!(check(at("127.0.0.1:6443"), &[at("127.0.0.1:6443")]).is_err());
        assert!(check(at("127.0.0.1:6443"), &[]).is_err());
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let settings = Settings {
            listen: "127.0.0.1:6443".parse().unwrap(),
            backends: ["10.0.0.2:6443".parse().unwrap()].into(),
        };
        std::fs::write(file.path(), settings.to_text()).unwrap();
        assert_eq!(Settings::read(file.path()).unwrap(), settings);
        std::fs::write(file.path(), "{}").unwrap();
        assert!(Settings::read(file.path()).is_err());
    }
}
