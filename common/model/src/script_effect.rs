//! This module owns [`EffectCheck`]: what has to be true of a host once a script of the image ended, whatever the script says.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// What a script of the rootfs is there for, to be looked for on the host itself. Scripts that name a function which is
/// nowhere, or end with what only cleans up, exit 0 all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectCheck {
    /// The cluster.
    pub cluster: ClusterName,
    /// The script that was to do it, by its path below the rootfs, e.g. `scripts/init.sh`.
    pub script: String,
    /// What it was to do.
    pub effects: Vec<ScriptEffect>,
    /// Seconds that what it started may take until it serves.
    pub time_limit_s: u32,
}

/// Something that a script of the image was to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptEffect {
    /// Docker answers on its socket.
    DockerAnswers,
    /// Containerd answers on its socket.
    ContainerdAnswers,
    /// Kubelet's unit is there, and systemd starts it with the host.
    KubeletIsEnabled,
    /// A registry answers where this name leads to, over TLS or without.
    RegistryServes {
        /// Its host name in image references.
        domain: String,
        /// Its TCP port there.
        port: u16,
    },
}

impl EffectCheck {
    /// The script's name without its folder.
    #[must_use]
    pub fn script_name(&self) -> &str {
        self.script.rsplit('/').next().unwrap_or(&self.script)
    }
}

impl fmt::Display for ScriptEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerAnswers => f.write_str("docker answers"),
            Self::ContainerdAnswers => f.write_str("containerd answers"),
            Self::KubeletIsEnabled => f.write_str("kubelet is enabled"),
            Self::RegistryServes { domain, port } => write!(f, "the registry serves at {domain}:{port}"),
        }
    }
}
