//! This module owns [`NodeMarks`]: labels and taints that nodes of a cluster are to have.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a label or taint, and longest value, in bytes (kubernetes.io, "Labels and Selectors").
const MAX_NAME_LEN: usize = 63;
/// Longest prefix of such a name, in bytes (RFC 1123, subdomain).
const MAX_PREFIX_LEN: usize = 253;
/// Most labels of one node, and most taints: a node of a cloud has about twenty labels.
const MAX_MARKS: usize = 256;

/// Nodes and the marks they have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeGroup {
    /// Their names in the cluster.
    pub nodes: Vec<String>,
    /// Their marks.
    pub marks: NodeMarks,
}

/// What a node is marked with, beside what Kubernetes marks it with itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeMarks {
    /// Labels by key.
    pub labels: BTreeMap<String, String>,
    /// Taints it has; one for each key and effect.
    pub taints: Vec<Taint>,
    /// Taints it does not have, whoever set them.
    pub without_taints: Vec<TaintPattern>,
}

/// Keeps pods that do not tolerate it away from a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
    /// What it does.
    pub effect: TaintEffect,
}

/// Taints by their key, or by key and effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaintPattern {
    /// The key.
    pub key: String,
    /// The effect; none for each of them.
    pub effect: Option<TaintEffect>,
}

/// What a taint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaintEffect {
    /// No new pods come.
    NoSchedule,
    /// New pods come when there is no other place.
    PreferNoSchedule,
    /// No new pods come and those that run leave.
    NoExecute,
}

impl TaintEffect {
    /// Every effect.
    pub const ALL: [Self; 3] = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];

    /// Its name in Kubernetes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no [`TaintEffect`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no effect of a taint")]
pub struct TaintEffectError(String);

impl FromStr for TaintEffect {
    type Err = TaintEffectError;

    fn from_str(text: &str) -> Result<Self, TaintEffectError> {
        let found = Self::ALL.into_iter().find(|effect| effect.name() == text);
        found.ok_or_else(|| TaintEffectError(text.chars().take(MAX_NAME_LEN).collect()))
    }
}

impl TaintPattern {
    /// Whether a taint with this key and effect is meant.
    #[must_use]
    pub fn matches(&self, key: &str, effect: &str) -> bool {
        self.key == key && self.effect.is_none_or(|own| own.name() == effect)
    }
}

impl NodeMarks {
    /// Whether a node is marked with nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.taints.is_empty() && self.without_taints.is_empty()
    }

    /// Whether Kubernetes takes them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        if self
            .labels
            .len()
            .max(self.taints.len())
            .max(self.without_taints.len())
            > MAX_MARKS
        {
            return Err(format!("a node has at most {MAX_MARKS} labels and taints"));
        }
        let taints = self.taints.iter();
        let keys = (self.labels.keys())
            .chain(taints.clone().map(|taint| &taint.key))
            .chain(self.without_taints.iter().map(|pattern| &pattern.key));
        let values = self.labels.values().chain(taints.map(|taint| &taint.value));
        for key in keys {
            check_mark_key(key)?;
        }
        for value in values {
            check_mark_value(value)?;
        }
        Ok(())
    }
}

/// Whether `key` can be the key of a label or taint: a name, or a DNS subdomain, '/' and a name.
///
/// # Errors
/// What is wrong with it.
pub fn check_mark_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() || !is_name(name) {
        return Err(format!(
            "{key:?} is not a key: 1 to {MAX_NAME_LEN} letters, digits, '-', '_' and '.', with a letter or digit at both ends; \
             a DNS name and '/' may stand before"
        ));
    }
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    match prefix {
        Some(prefix) if prefix.len() > MAX_PREFIX_LEN || !prefix.split('.').all(label) => Err(format!(
            "{key:?} is not a key: before '/' stands a DNS name in small letters"
        )),
        _ => Ok(()),
    }
}

/// Whether `value` can be the value of a label or taint.
///
/// # Errors
/// What is wrong with it.
pub fn check_mark_value(value: &str) -> Result<(), String> {
    if is_name(value) {
        return Ok(());
    }
    Err(format!(
        "{value:?} is not a value: at most {MAX_NAME_LEN} letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    ))
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_NAME_LEN
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_what_kubernetes_takes() {
        for key in [
            "disk",
            "example.test/disk",
            "node-role.kubernetes.io/db",
            "a.b_c-D",
        ] {
            check_mark_key(key).unwrap();
        }
        for key in [
            "",
            "-disk",
            "disk.",
            "/disk",
            "Example.test/disk",
            "a/b/c",
            "a b",
            "a..b/c",
        ] {
            assert!(check_mark_key(key).is_err(), "{key:?}");
        }
        for value in ["", "ssd", "a.b_c-D"] {
            check_mark_value(value).unwrap();
        }
        for value in ["a b", "-a", "a:b", &"a".repeat(64)] {
            assert!(check_mark_value(value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn a_pattern_without_effect_means_every_taint_of_its_key() {
        let pattern = |effect| TaintPattern {
            key: "dedicated".into(),
            effect,
        };
        assert!(pattern(None).matches("dedicated", "NoExecute"));
        assert!(pattern(Some(TaintEffect::NoExecute)).matches("dedicated", "NoExecute"));
        assert!(!pattern(Some(TaintEffect::NoSchedule)).matches("dedicated", "NoExecute"));
        assert!(!pattern(None).matches("other", "NoExecute"));
    }
}
