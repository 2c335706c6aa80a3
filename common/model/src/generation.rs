//! This module owns [`Generation`]: one assembled rootfs on one host, numbered.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterName, Digest};

/// The number of a generation of one cluster's rootfs on one host. The first is 1; numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GenerationId(pub u32);

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One assembled rootfs: read-only layers below, one writable folder on top.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub id: GenerationId,
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Digest of the image manifest it was assembled from.
    pub image: Digest,
    /// Digests of its layers, bottom first.
    pub layers: Vec<Digest>,
}
