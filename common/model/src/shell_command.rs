//! This module owns [`ShellCommand`]: a command that no image brings, and when it comes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// A command that is no part of an image: `cd ROOTFS && bash FILE` as root, on hosts whose agent allows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShellCommand {
    /// The cluster in whose current rootfs it runs.
    pub cluster: ClusterName,
    /// Where it stands.
    pub origin: CommandOrigin,
    /// When it runs.
    pub when: CommandMoment,
    /// What bash reads.
    pub text: String,
    /// Environment, sorted by name.
    pub env: BTreeMap<String, String>,
    /// Seconds after which it and everything it started is ended. 0: no limit.
    pub time_limit_s: u32,
}

/// Where a command stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandOrigin {
    /// It is a plugin of this name.
    Plugin(String),
    /// It has this place, from 0, in the list that stands for the commands of the image.
    Listed(u32),
    /// It launches the application of this name.
    Application(String),
}

/// When a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandMoment {
    /// Every host has its rootfs; no script ran.
    BeforeInstall,
    /// Before the host's scripts.
    BeforeInit,
    /// The host is a member of its cluster.
    AfterJoin,
    /// The cluster is complete.
    BeforeCommands,
    /// In the place of the image's commands.
    Commands,
    /// After the image's commands.
    AfterCommands,
    /// Before the host leaves its cluster.
    BeforeClean,
    /// The image's scripts cleaned the host; before its rootfs goes.
    AfterClean,
    /// Before the host's scripts, where it comes from an older image.
    BeforeUpgrade,
    /// Every host is what it is to be, and this one comes from an older image.
    AfterUpgrade,
    /// Every host is what it is to be, and this one went back to an image that it had before.
    AfterRollback,
    /// Before the scripts of hosts that are added to a cluster which was complete.
    BeforeScaleUp,
    /// Hosts were added to a cluster which was complete, and are members with their labels and taints.
    AfterScaleUp,
}

impl ShellCommand {
    /// Longest name of a plugin, in bytes: as a label's.
    pub const MAX_NAME_LEN: usize = 63;
    /// Longest text, in bytes: commands that are longer are scripts of an image.
    pub const MAX_LEN: usize = 64 << 10;

    /// Whether `name` can be the name of a plugin. It becomes part of titles and of what units are described by.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=Self::MAX_NAME_LEN).contains(&name.len()) && name.bytes().all(legal)
    }

    /// Whether `text` can be run.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow its name.
    pub fn check_text(text: &str) -> Result<(), String> {
        if text.trim().is_empty() {
            return Err("is empty".into());
        }
        if text.len() > Self::MAX_LEN {
            return Err(format!("is longer than {} KiB", Self::MAX_LEN >> 10));
        }
        match text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
            Some(odd) => Err(format!("has the control character {odd:?}")),
            None => Ok(()),
        }
    }

    /// As [`CommandOrigin::title`].
    #[must_use]
    pub fn title(&self) -> String {
        self.origin.title()
    }
}

impl CommandOrigin {
    /// A few words for people: `plugin dns`, `command 1`, `application web`.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Plugin(name) => format!("plugin {name}"),
            Self::Listed(index) => format!("command {}", u64::from(*index) + 1),
            Self::Application(name) => format!("application {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_have_bounds() {
        assert!(ShellCommand::is_name("10-dns.v1"));
        for odd in ["", "a b", "a/b", "a\n", &"a".repeat(64)] {
            assert!(!ShellCommand::is_name(odd), "{odd:?}");
        }
        ShellCommand::check_text("echo a\n\techo b\n").unwrap();
        for odd in [" \n", "a\0b", "a\rb", &"a".repeat(ShellCommand::MAX_LEN + 1)] {
            ShellCommand::check_text(odd).unwrap_err();
        }
    }
}
