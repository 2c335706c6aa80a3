//! This module owns [`LayerWriter`]: how a layer's blob is made, in one pass and on all cores.

use std::io::Read;
use std::path::Path;

use gantry_model::LayerDescriptor;

use crate::{LayerError, Store};

/// How a layer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// Modification time of every entry, seconds since the epoch (`SOURCE_DATE_EPOCH`, else 0).
    pub mtime: i64,
    /// Whose files they are.
    pub owners: Owners,
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
#[derive(Debug)]
pub struct LayerWriter {}

impl LayerWriter {
    /// Starts a layer whose blob goes into `store`.
    ///
    /// # Errors
    /// When the blob's temporary file or the threads cannot be made.
    pub fn new(_store: &Store) -> Result<Self, LayerError> {
        unimplemented!()
    }

    /// Adds a folder. `path` has no leading `/`.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn directory(&mut self, _path: &str, _metadata: &Metadata) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Adds a regular file with the `size` bytes that `content` gives.
    ///
    /// # Errors
    /// When `content` ends early or cannot be read, the path is not one a layer may have, or writing fails.
    pub fn file(
        &mut self,
        _path: &str,
        _metadata: &Metadata,
        _size: u64,
        _content: &mut dyn Read,
    ) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn symlink(&mut self, _path: &str, _metadata: &Metadata, _target: &str) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Adds another name of the regular file at `target`, which was added before.
    ///
    /// # Errors
    /// When there is no such file, the path is not one a layer may have, or writing fails.
    pub fn hard_link(&mut self, _path: &str, _target: &str) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Hides what lower layers have at `path`.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn whiteout(&mut self, _path: &str) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Hides everything lower layers have in the folder `path`, which was added before.
    ///
    /// # Errors
    /// When the path is not one a layer may have, or writing fails.
    pub fn opaque(&mut self, _path: &str) -> Result<(), LayerError> {
        unimplemented!()
    }

    /// Ends the layer: its blob is in the store when this returns.
    ///
    /// # Errors
    /// When writing fails. Nothing is left then.
    pub fn finish(self) -> Result<LayerDescriptor, LayerError> {
        unimplemented!()
    }
}

/// Makes a layer of everything below `dir` (not `dir` itself): entries sorted, times and owners as `options` say,
/// modes kept.
///
/// Overlay's own marks (character device 0:0, `trusted.overlay.opaque`) become whiteouts, so the upper folder of an
/// overlay mount can be given.
///
/// # Errors
/// When something cannot be read, a name is not UTF-8, or there is a device, FIFO or socket.
pub fn layer_from_tree(
    _store: &Store,
    _dir: &Path,
    _options: &LayerOptions,
) -> Result<LayerDescriptor, LayerError> {
    unimplemented!()
}
