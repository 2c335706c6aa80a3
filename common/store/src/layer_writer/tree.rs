//! A folder on disk → a layer.

use std::collections::HashMap;
use std::fs::{self, File, Metadata as FileMetadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use gantry_model::LayerDescriptor;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{LayerOptions, LayerWriter, Metadata, Owners, refused};
use crate::limits::MAX_XATTR_LEN;
use crate::toc::names;
use crate::{LayerError, Store};

/// Names of overlay's mark of an opaque folder: as root writes it, and as mounts inside user namespaces do.
pub(crate) const OVERLAY_OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
/// Marks of overlay features that spread one file over several layers. Such a folder means nothing alone.
const OVERLAY_PARTIAL: [&str; 4] = [
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.redirect",
    "user.overlay.metacopy",
];

/// Makes a layer of everything below `dir` (not `dir` itself): entries sorted, times and owners as `options` say,
/// modes kept.
///
/// Overlay's own marks (character device 0:0, `trusted.overlay.opaque`) become whiteouts, so the upper folder of an
/// overlay mount can be given.
///
/// # Errors
/// When something cannot be read, a name is not UTF-8, or there is a device, FIFO or socket.
pub fn layer_from_tree(
    store: &Store,
    dir: &Path,
    options: &LayerOptions,
) -> Result<LayerDescriptor, LayerError> {
    let mut walk = Walk {
        writer: LayerWriter::new(store)?,
        options: *options,
        names: HashMap::new(),
    };
    if is_opaque(dir)? {
        walk.writer.opaque("")?;
    }
    walk.folder(dir, "")?;
    walk.writer.finish()
}

/// Adds files, folders and links of this host to a layer, one by one: paths in the layer are free to choose.
///
/// Names of one file that were both added become hard links.
#[derive(Debug)]
pub struct TreeLayer {
    walk: Walk,
}

impl TreeLayer {
    /// Starts a layer whose blob goes into `store`.
    ///
    /// # Errors
    /// When the blob's temporary file or the threads cannot be made.
    pub fn new(store: &Store, options: &LayerOptions) -> Result<Self, LayerError> {
        let walk = Walk {
            writer: LayerWriter::new(store)?,
            options: *options,
            names: HashMap::new(),
        };
        Ok(Self { walk })
    }

    /// Adds what is at `file`, as `path` in the layer. Of a folder only itself, not what lies in it.
    ///
    /// # Errors
    /// When it cannot be read, or is a device, FIFO or socket.
    pub fn add(&mut self, file: &Path, path: &str) -> Result<(), LayerError> {
        self.walk.add(file, path).map(|_| ())
    }

    /// The writer, for entries that are not on this host.
    pub fn writer(&mut self) -> &mut LayerWriter {
        &mut self.walk.writer
    }

    /// Ends the layer: its blob is in the store when this returns.
    ///
    /// # Errors
    /// When writing fails. Nothing is left then.
    pub fn finish(self) -> Result<LayerDescriptor, LayerError> {
        self.walk.writer.finish()
    }
}

#[derive(Debug)]
struct Walk {
    writer: LayerWriter,
    options: LayerOptions,
    /// First name of each file with several names, by device and inode.
    names: HashMap<(u64, u64), String>,
}

impl Walk {
    /// Adds what lies in `dir`, whose path in the layer is `folder`.
    fn folder(&mut self, dir: &Path, folder: &str) -> Result<(), LayerError> {
        let list = || LayerError::io("list", dir);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(list())? {
            let name = entry.map_err(list())?.file_name();
            let name = name.into_string().map_err(|name| {
                let path = names::join(folder, &name.to_string_lossy());
                refused(
                    &path,
                    "its name is not UTF-8, which tables of contents cannot hold; rename it",
                )
            })?;
            entries.push(name);
        }
        entries.sort_unstable();
        for name in entries {
            self.entry(&dir.join(&name), &names::join(folder, &name))?;
        }
        Ok(())
    }

    fn entry(&mut self, file: &Path, path: &str) -> Result<(), LayerError> {
        if self.add(file, path)? {
            self.folder(file, path)
        } else {
            Ok(())
        }
    }

    /// Adds one entry; says whether it is a folder.
    fn add(&mut self, file: &Path, path: &str) -> Result<bool, LayerError> {
        let found = fs::symlink_metadata(file).map_err(LayerError::io("look at", file))?;
        let kind = found.file_type();
        if kind.is_char_device() && found.rdev() == 0 {
            return self.writer.whiteout(path).map(|()| false);
        }
        let device = kind.is_char_device() || kind.is_block_device();
        if device || kind.is_fifo() || kind.is_socket() {
            let what = if device {
                "a device node"
            } else {
                "a FIFO or socket"
            };
            return Err(refused(
                path,
                format!("it is {what}; layers carry files, folders and links only, remove it"),
            ));
        }
        let metadata = self.metadata(file, path, &found)?;
        if kind.is_dir() {
            self.writer.directory(path, &metadata)?;
            if is_opaque(file)? {
                self.writer.opaque(path)?;
            }
            return Ok(true);
        }
        if kind.is_symlink() {
            let target = fs::read_link(file).map_err(LayerError::io("read link", file))?;
            let target = target
                .to_str()
                .ok_or_else(|| refused(path, "its target is not UTF-8"))?;
            self.writer.symlink(path, &metadata, target)?;
        } else {
            self.file(file, path, &found, &metadata)?;
        }
        Ok(false)
    }

    fn file(
        &mut self,
        file: &Path,
        path: &str,
        found: &FileMetadata,
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        if found.nlink() > 1 {
            let inode = (found.dev(), found.ino());
            if let Some(first) = self.names.get(&inode) {
                return self.writer.hard_link(path, first);
            }
            self.names.insert(inode, path.to_owned());
        }
        // Not followed and not waited for: what was a file a moment ago may be a link or a FIFO now.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let mut content = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(file)
            .map_err(LayerError::io("open", file))?;
        self.writer.file(path, metadata, found.len(), &mut content)?;
        if at_end(&mut content).map_err(LayerError::io("read", file))? {
            Ok(())
        } else {
            Err(refused(
                path,
                "it grew while it was read; try again when nothing writes to it",
            ))
        }
    }

    fn metadata(&self, file: &Path, path: &str, found: &FileMetadata) -> Result<Metadata, LayerError> {
        let (uid, gid) = match self.options.owners {
            Owners::Root => (0, 0),
            Owners::Keep => (found.uid(), found.gid()),
        };
        let xattrs = xattrs(file).map_err(LayerError::io("read the extended attributes of", file))?;
        if let Some((name, _)) = xattrs
            .iter()
            .find(|(name, _)| OVERLAY_PARTIAL.contains(&name.as_str()))
        {
            let reason =
                format!("part of it is in another layer ({name}); mount with redirect_dir=off,metacopy=off");
            return Err(refused(path, reason));
        }
        // A link has none of its own.
        let mode = self.options.mode.filter(|_| !found.is_symlink());
        Ok(Metadata {
            mode: mode.unwrap_or(found.mode()) & 0o7777,
            uid,
            gid,
            mtime: self.options.mtime,
            xattrs,
        })
    }
}

fn at_end(file: &mut File) -> io::Result<bool> {
    file.read(&mut [0]).map(|read| read == 0)
}

fn is_opaque(dir: &Path) -> Result<bool, LayerError> {
    let xattrs = xattrs(dir).map_err(LayerError::io("read the extended attributes of", dir))?;
    Ok(xattrs
        .iter()
        .any(|(name, value)| OVERLAY_OPAQUE.contains(&name.as_str()) && value == b"y"))
}

/// All extended attributes of `file` itself, sorted by name. None where the file system has none.
pub(crate) fn xattrs(file: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let list = match sized(|list| rustix::fs::llistxattr(file, list)) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // Those that layers carry have readable names.
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        match sized(|value| rustix::fs::lgetxattr(file, name, value)) {
            Ok(value) => xattrs.push((name.to_owned(), value)),
            // Gone between the two calls, or not for us to see.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// What `read` gives, first into little room, which nearly always is enough, then into as much as the kernel allows.
fn sized(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let mut len = read(&mut buffer);
    if len == Err(Errno::RANGE) {
        buffer.resize(MAX_XATTR_LEN, 0);
        len = read(&mut buffer);
    }
    buffer.truncate(len?);
    Ok(buffer)
}
