//! This module owns [`ConfigsError`].

use std::io;
use std::path::PathBuf;

/// Why config files are not written or looked at.
#[derive(Debug, thiserror::Error)]
pub enum ConfigsError {
    /// What is there is no file to write over.
    #[error("config file {path} cannot be written: the image has {what} there")]
    Refused {
        /// Path below the rootfs.
        path: String,
        /// What it is.
        what: String,
    },
    /// The file system said no.
    #[error("cannot {action} config file {path} of the rootfs: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Path below the rootfs.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The rootfs cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Rootfs {
        /// Where it is mounted.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What is noted of them cannot be read or written.
    #[error("cannot {action} the note of config files: {source}")]
    Note {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl ConfigsError {
    /// A [`ConfigsError::Io`] for use with `map_err`.
    pub(super) fn io(action: &'static str, path: &str) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path: path.clone(),
            source,
        }
    }

    /// A [`ConfigsError::Note`] for use with `map_err`.
    pub(super) fn note(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Note { action, source }
    }
}
