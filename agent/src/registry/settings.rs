//! This module owns [`Settings`]: by which name a registry is found and what it serves.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Longest file of settings, in bytes: far more than a name, a port and some paths need.
const MAX_LEN: u64 = 64 << 10;
/// Longest host name, from RFC 1035.
const MAX_DOMAIN_LEN: usize = 253;

/// By which name a registry is found and what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Its host name in image references. It leads to this host.
    pub(crate) domain: String,
    /// Its TCP port, on the loopback address.
    pub(crate) port: u16,
    /// The rootfs whose `registry/` is served. What it leads to may change at any time.
    pub(crate) rootfs: PathBuf,
    /// Its certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// The certificate's key, PEM.
    pub(crate) key: PathBuf,
}

impl Settings {
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

/// Whether a registry can have this name. It becomes the name of a folder.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(domain: &str, port: u16) -> Result<(), String> {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if domain.len() > MAX_DOMAIN_LEN || !domain.split('.').all(label) {
        let domain: String = domain.chars().take(64).collect();
        return Err(format!(
            "{domain:?} is not a host name, so no registry can be found by it"
        ));
    }
    if port == 0 {
        return Err("a registry cannot listen on port 0".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_has_a_host_name_and_a_port() {
        check("sea.hub", 5000).unwrap();
        for domain in ["", "..", "sea..hub", "sea/hub", "a b", &"x".repeat(300)] {
            assert!(check(domain, 5000).is_err(), "{domain:?}");
        }
        assert!(check("sea.hub", 0).is_err());
    }
}
