//! This module owns [`LayerWriter`]: how a layer's blob is made, in one pass and on all cores.

pub(crate) mod chunked_blob;
mod cut;
pub(crate) mod footer;
mod frame;
mod pipeline;
mod source_digest;
pub(crate) mod tar_header;
#[cfg(test)]
mod tests;
mod tree;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Read};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::LayerDescriptor;

use self::chunked_blob::{ChunkedBlob, Content, Record};
use self::tar_header::Kind;
use crate::toc::document::EntryDocument;
use crate::toc::names::{self, Mark, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::{LayerError, Store};

pub use frame::COMPRESSION_LEVEL;
pub use source_digest::SourceDigest;
pub(crate) use tree::xattrs;
pub use tree::{TreeLayer, layer_from_tree};

/// How a layer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// Modification time of every entry, seconds since the epoch (`SOURCE_DATE_EPOCH`, else 0).
    pub mtime: i64,
    /// Whose files they are.
    pub owners: Owners,
    /// Mode of every file and folder; none for what each has on disk.
    pub mode: Option<u32>,
}

/// Whose the files of a new layer are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owners {
    /// All of them root's, whoever built the layer.
    #[default]
    Root,
    /// As they are on disk.
    Keep,
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self {
            mtime: 0,
            owners: Owners::Root,
            mode: None,
        }
    }
}

/// What every entry has, whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
    /// Extended attributes; only `security.capability` and `user.*` are kept.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Builds one layer from entries in the order they are given: same entries, same bytes.
pub struct LayerWriter {
    blob: ChunkedBlob,
    records: Vec<Record>,
    /// Every path added, and whether it is a regular file.
    paths: HashMap<String, bool>,
}

impl LayerWriter {
    /// Starts a layer whose blob goes into `store`.
    ///
    /// # Errors
    /// When the blob's temporary file or the threads cannot be made.
    pub fn new(store: &Store) -> Result<Self, LayerError> {
        Ok(Self {
            blob: ChunkedBlob::new(store)?,
            records: Vec::new(),
            paths: HashMap::new(),
        })
    }

    /// Adds a folder. `path` has no leading `/`.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn directory(&mut self, path: &str, metadata: &Metadata) -> Result<(), LayerError> {
        let path = self.claim(path, false)?;
        self.entry(Kind::Directory, &format!("{path}/"), "", metadata)
    }

    /// Adds a regular file with the `size` bytes that `content` gives.
    ///
    /// # Errors
    /// When `content` ends early or cannot be read, the path is not one a layer may have, or writing fails.
    pub fn file(
        &mut self,
        path: &str,
        metadata: &Metadata,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        let path = self.claim(path, true)?;
        self.regular_file(&path, metadata, size, content)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn symlink(&mut self, path: &str, metadata: &Metadata, target: &str) -> Result<(), LayerError> {
        let path = self.claim(path, false)?;
        self.entry(Kind::Symlink, &path, target, metadata)
    }

    /// Adds another name of the regular file at `target`, which was added before.
    ///
    /// # Errors
    /// When there is no such file, the path is not one a layer may have, or writing fails.
    pub fn hard_link(&mut self, path: &str, target: &str) -> Result<(), LayerError> {
        if self.paths.get(target) != Some(&true) {
            return Err(refused(
                path,
                format!("its hard link target {target:?} is no file added before it"),
            ));
        }
        let path = self.claim(path, false)?;
        // What a hard link has is what its file has.
        let metadata = Metadata {
            mode: 0o644,
            ..Metadata::default()
        };
        self.entry(Kind::HardLink, &path, target, &metadata)
    }

    /// Hides what lower layers have at `path`.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn whiteout(&mut self, path: &str) -> Result<(), LayerError> {
        let path = self.claim(path, false)?;
        let name = format!("{WHITEOUT_PREFIX}{}", names::base(&path));
        let mark = names::join(names::parent(&path).unwrap_or_default(), &name);
        self.regular_file(&mark, &Metadata::default(), 0, &mut std::io::empty())
    }

    /// Hides everything lower layers have in the folder `path`; the layer's root is the empty path.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn opaque(&mut self, path: &str) -> Result<(), LayerError> {
        let folder = names::normalise(path).map_err(|reason| refused(path, reason))?;
        let mark = names::join(folder, OPAQUE_NAME);
        self.regular_file(&mark, &Metadata::default(), 0, &mut std::io::empty())
    }

    /// Ends the layer: its blob is in the store when this returns.
    ///
    /// # Errors
    /// When writing fails. Nothing is left then.
    pub fn finish(mut self) -> Result<LayerDescriptor, LayerError> {
        self.blob.headers(&tar_header::END)?;
        self.blob.finish(self.records)
    }

    /// The path an entry gets, if it is free and one a layer may have.
    fn claim(&mut self, path: &str, file: bool) -> Result<String, LayerError> {
        let path = names::normalise(path).map_err(|reason| refused(path, reason))?;
        if path.is_empty() {
            return Err(refused("/", "the layer's root is not an entry"));
        }
        match names::mark(path).map_err(|reason| refused(path, reason))? {
            Mark::None => {}
            _ => {
                return Err(refused(
                    path,
                    "names that start with \".wh.\" are reserved for whiteouts; rename it",
                ));
            }
        }
        match self.paths.insert(path.to_owned(), file) {
            None => Ok(path.to_owned()),
            Some(_) => Err(refused(path, "it was added before")),
        }
    }

    fn regular_file(
        &mut self,
        path: &str,
        metadata: &Metadata,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        let metadata = carried(path, metadata)?;
        self.blob
            .headers(&tar_header::header(path, Kind::File, "", size, &metadata))?;
        let content = self
            .blob
            .content(size, content)?
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => refused(path, "it became shorter while it was read; try again"),
                _ => LayerError::Io {
                    action: "read",
                    path: path.into(),
                    source: error,
                },
            })?;
        self.blob.headers(&tar_header::END[..tar_header::padding(size)])?;
        self.records.push(Record {
            document: document(Kind::File, path, "", &metadata),
            content,
        });
        Ok(())
    }

    fn entry(&mut self, kind: Kind, name: &str, link: &str, metadata: &Metadata) -> Result<(), LayerError> {
        let metadata = carried(name, metadata)?;
        self.blob
            .headers(&tar_header::header(name, kind, link, 0, &metadata))?;
        let record = Record {
            document: document(kind, name, link, &metadata),
            content: Content::default(),
        };
        self.records.push(record);
        Ok(())
    }
}

impl fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerWriter")
            .field("entries", &self.records.len())
            .finish_non_exhaustive()
    }
}

fn document(kind: Kind, name: &str, link: &str, metadata: &Metadata) -> EntryDocument<'static> {
    let encode = |(name, value): &(String, Vec<u8>)| (name.clone(), BASE64_STANDARD.encode(value));
    EntryDocument {
        kind: Cow::Borrowed(match kind {
            Kind::File => "reg",
            Kind::HardLink => "hardlink",
            Kind::Symlink => "symlink",
            Kind::Directory => "dir",
        }),
        name: Cow::Owned(name.to_owned()),
        link_name: Cow::Owned(link.to_owned()),
        mode: metadata.mode.into(),
        uid: metadata.uid.into(),
        gid: metadata.gid.into(),
        mod_time: jiff::Timestamp::from_second(metadata.mtime)
            .ok()
            .map(|time| Cow::Owned(time.to_string())),
        xattrs: (!metadata.xattrs.is_empty()).then(|| metadata.xattrs.iter().map(encode).collect()),
        ..EntryDocument::default()
    }
}

/// `metadata` with those extended attributes that layers carry, in order.
fn carried(path: &str, metadata: &Metadata) -> Result<Metadata, LayerError> {
    if jiff::Timestamp::from_second(metadata.mtime).is_err() {
        return Err(refused(
            path,
            format!("its time {} is out of bounds", metadata.mtime),
        ));
    }
    let mut metadata = Metadata {
        mode: metadata.mode & 0o7777,
        ..metadata.clone()
    };
    metadata.xattrs.retain(|(name, _)| names::carries_xattr(name));
    metadata.xattrs.sort_unstable();
    names::check_xattrs(&metadata.xattrs).map_err(|reason| refused(path, reason))?;
    Ok(metadata)
}

pub(crate) fn refused(path: &str, reason: impl Into<String>) -> LayerError {
    LayerError::Entry {
        path: names::readable(path),
        reason: reason.into(),
    }
}
