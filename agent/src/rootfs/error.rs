//! This module owns [`RootfsError`].

use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{ClusterName, Digest, GenerationId};

/// Why a rootfs cannot be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Rendered files cannot be looked at.
    #[error(transparent)]
    Templates(#[from] crate::templates::TemplatesError),
    /// Config files cannot be looked at.
    #[error(transparent)]
    Configs(#[from] crate::configs::ConfigsError),
    /// The file system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused the overlay mount; its text names the target.
    #[error("{source}")]
    Mount {
        /// What it said.
        source: io::Error,
    },
    /// A layer is not on this host.
    #[error("layer {} is not on this host; stage the image first", layer.short())]
    MissingLayer {
        /// The layer.
        layer: Digest,
    },
    /// Something in a layer was touched after it was verified.
    #[error("layer {} was touched after it was verified; run the same command again, which verifies it", layer.short())]
    ChangedLayer {
        /// The layer.
        layer: Digest,
    },
    /// The image has no layers.
    #[error("the image for cluster {cluster} has no layers")]
    NoLayers {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The cluster has no current generation.
    #[error("cluster {cluster} has no rootfs on this host; apply it first")]
    NoRootfs {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The current generation is not mounted.
    #[error("generation {generation} of cluster {cluster} is not mounted at {}; restart gantry-agent", path.display())]
    NotMounted {
        /// The cluster.
        cluster: ClusterName,
        /// Its current generation.
        generation: GenerationId,
        /// Where it should be.
        path: PathBuf,
    },
    /// Something that Gantry did not make stands where a link has to be.
    #[error(
        "{} is there and is not Gantry's: another cluster tool may use it; move it away and try again",
        path.display()
    )]
    InTheWay {
        /// What stands there.
        path: PathBuf,
    },
    /// A generation's own record is damaged.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl RootfsError {
    /// A [`RootfsError::Io`] for use with `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
