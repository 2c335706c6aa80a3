//! This module owns [`ApplicationLaunch`]: one application of an image that is launched, and what proves how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// An application of an image, launched once when the cluster is complete, in the rootfs and as root.
///
/// How it is launched stands in the image's manifest, which no layer holds: it travels with the step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationLaunch {
    /// The cluster whose current generation is of the image.
    pub cluster: ClusterName,
    /// The application's name; see [`ApplicationLaunch::is_name`].
    pub application: String,
    /// The image's manifest, whose digest is the generation's image.
    pub manifest: String,
    /// Environment, sorted by name; what the image has for the application is in it.
    pub env: BTreeMap<String, String>,
    /// Seconds after which it and everything it started is ended. 0: no limit.
    pub time_limit_s: u32,
}

impl ApplicationLaunch {
    /// Longest name of an application, in bytes.
    pub const MAX_NAME_LEN: usize = 63;

    /// Whether `name` can be the name of an application. It is that of a folder, and becomes part of titles.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (1..=Self::MAX_NAME_LEN).contains(&name.len())
            && name.bytes().all(legal)
            && name
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_alphanumeric())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_a_folder() {
        assert!(ApplicationLaunch::is_name("web-1.x_y"));
        for odd in ["", "..", ".web", "-web", "a/b", "a b", "a\n", &"a".repeat(64)] {
            assert!(!ApplicationLaunch::is_name(odd), "{odd:?}");
        }
    }
}
