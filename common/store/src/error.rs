//! This module owns [`StoreError`]: everything that can go wrong with the image store.

use std::io;
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ExitCode};

use crate::LayerError;

/// Most names of the store that an error lists.
const LISTED: usize = 8;

/// What went wrong in the store: the object, the cause, and what to do next where there is something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done, e.g. `open`.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Reading something that is no file of the store (an archive, a stream) failed.
    #[error("cannot read {what}")]
    Read {
        /// What was being read.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Writing something that is no file of the store (an archive, a stream) failed.
    #[error("cannot write {what}")]
    Write {
        /// What was being written.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// There is not enough room.
    #[error(
        "{what} needs {needed} bytes, {} has {free} free; make room (`gantry rmi`) or choose another --root",
        path.display()
    )]
    NoSpace {
        /// What needs the room.
        what: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are.
        free: u64,
        /// On this file system.
        path: PathBuf,
    },
    /// No image goes by this name.
    #[error("image {wanted} is not in the store{}", hint(near, known))]
    NoSuchImage {
        /// The name or digest that was asked for.
        wanted: String,
        /// Names in the store that look like it.
        near: Vec<String>,
        /// All names there are.
        known: Vec<String>,
    },
    /// An image is for other platforms.
    #[error("image {image} has nothing for {wanted}: it is for {}", platforms(has))]
    OtherPlatform {
        /// The image.
        image: String,
        /// The platform that was asked for, `OS/ARCHITECTURE`.
        wanted: String,
        /// Those that it has, in the same form; none: its index does not say.
        has: Vec<String>,
    },
    /// A name would lead to two images for one platform.
    #[error("image {image} has one for {platform} already, {}", present.short())]
    TwoForPlatform {
        /// The name of the whole.
        image: String,
        /// The platform, `OS/ARCHITECTURE`.
        platform: String,
        /// The one that it has.
        present: Digest,
    },
    /// A blob that something in the store needs is not there.
    #[error(
        "blob {digest} ({what}) is missing from the store; load or build the image again, \
         `gantry store check` names everything that is affected"
    )]
    MissingBlob {
        /// Its digest.
        digest: Digest,
        /// What it is for.
        what: String,
    },
    /// Bytes do not have the digest they were announced with.
    #[error("{what} does not match its digest: announced {expected}, got {found}; nothing of it was kept")]
    WrongDigest {
        /// The object.
        what: String,
        /// The digest it was announced with.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// There are more or fewer bytes than were announced.
    #[error("{what} does not have its announced size of {expected} bytes: {found}; nothing of it was kept")]
    WrongSize {
        /// The object.
        what: String,
        /// The announced size.
        expected: u64,
        /// What was found instead, in words.
        found: String,
    },
    /// A document or archive is not what it claims to be.
    #[error("{what} is not valid: {reason}")]
    Malformed {
        /// The document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer could not be made, read or removed.
    #[error("{what}")]
    Layer {
        /// Which layer of what.
        what: String,
        /// Why.
        source: Box<LayerError>,
    },
    /// Something arrived only in part.
    #[error("{what} is cut short or damaged: {reason}; nothing of it was kept, copy it again")]
    CutShort {
        /// The archive.
        what: String,
        /// How it was noticed.
        reason: String,
    },
    /// The guard of the store does not accept an image.
    #[error("{reason}")]
    Refused {
        /// What, by whom, and why.
        reason: String,
        /// The exit code of a command that ends so.
        code: ExitCode,
    },
    /// An image cannot be removed, because it is mounted.
    #[error("image {image} is mounted at {}; `gantry umount {image}` first", target.display())]
    Mounted {
        /// Its name.
        image: String,
        /// Where.
        target: PathBuf,
    },
    /// Something is larger than the store accepts.
    #[error("{what} is larger than {limit} bytes, the most that is accepted")]
    TooLarge {
        /// The object.
        what: String,
        /// The bound in bytes.
        limit: u64,
    },
}

impl StoreError {
    /// An [`StoreError::Io`] for use with `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    /// A [`StoreError::Layer`] for use with `map_err`.
    pub fn layer(what: impl Into<String>) -> impl FnOnce(LayerError) -> Self {
        move |source| Self::Layer {
            what: what.into(),
            source: Box::new(source),
        }
    }

    /// The same, saying that `to` is what was being written, if it is about writing something.
    #[must_use]
    pub fn written_to(self, to: &Path) -> Self {
        match self {
            Self::Write { source, .. } => Self::Write {
                what: to.display().to_string(),
                source,
            },
            error => error,
        }
    }

    /// A [`StoreError::Malformed`].
    #[must_use]
    pub fn malformed(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed {
            what: what.into(),
            reason: reason.into(),
        }
    }

    /// The exit code a command ends with when this is its error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Layer { source, .. } => source.exit_code(),
            Self::Refused { code, .. } => *code,
            Self::Mounted { .. } => ExitCode::Locked,
            Self::Io { .. } | Self::Read { .. } | Self::Write { .. } | Self::NoSpace { .. } => {
                ExitCode::Failed
            }
            Self::NoSuchImage { .. }
            | Self::OtherPlatform { .. }
            | Self::TwoForPlatform { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => ExitCode::Input,
            Self::CutShort { .. }
            | Self::MissingBlob { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. } => ExitCode::Verification,
        }
    }
}

fn hint(near: &[String], known: &[String]) -> String {
    if !near.is_empty() {
        format!("; did you mean {}?", near.join(" or "))
    } else if known.is_empty() {
        "; the store is empty: `gantry load -i FILE` or `gantry build` brings images in".to_owned()
    } else {
        let listed = &known[..known.len().min(LISTED)];
        let more = match known.len() - listed.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("; it holds {}{more}", listed.join(", "))
    }
}

fn platforms(has: &[String]) -> String {
    if has.is_empty() {
        "no platform that its index names".to_owned()
    } else {
        has.join(", ")
    }
}
