//! This module owns [`ImageCommand`]: one command of an image, and what proves that it is one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// A command of an image (`CMD` of its Kubefile), run once when the cluster is complete: `cd ROOTFS && COMMAND` as root.
///
/// It stands in the image's config, which no layer holds: the documents by which it can be proved travel with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageCommand {
    /// The cluster whose current generation is of the image.
    pub cluster: ClusterName,
    /// The shell line.
    pub command: String,
    /// Its place among the image's commands, from 0.
    pub index: u32,
    /// The image's manifest, whose digest is the generation's image.
    pub manifest: String,
    /// The image's config, whose digest is in the manifest.
    pub config: String,
    /// Environment, sorted by name.
    pub env: BTreeMap<String, String>,
    /// Seconds after which it and everything it started is ended. 0: no limit.
    pub time_limit_s: u32,
}
