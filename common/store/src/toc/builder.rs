//! Checks entry after entry and puts the [`Toc`] together.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::Digest;

use super::document::{EntryDocument, KIND_CHUNK};
use super::names::{self, Mark};
use super::parse::Fault;
use super::pieces::{Pieces, check_overlaps};
use super::{Chunk, EntryKind, Mtime, Toc, TocEntry};
use crate::limits::{MAX_ENTRIES, MAX_FILE_LEN, MAX_LAYER_CONTENT, MAX_SYMLINK_LEN};

/// Longest way from a hard link over hard links to a file.
const MAX_LINK_STEPS: usize = 16;

/// A [`Toc`] in the making.
pub(super) struct Builder {
    /// No chunk reaches past this: here the table of contents begins.
    content_end: u64,
    entries: Vec<TocEntry>,
    chunks: Vec<Chunk>,
    places: HashMap<String, u32>,
    /// Folders marked opaque.
    opaque: Vec<String>,
    /// Hard links and the paths they name, to be found when all entries are known.
    links: Vec<(u32, String)>,
    /// The regular file whose `chunk` entries may still follow.
    open: Option<Pieces>,
    content_len: u64,
}

impl Builder {
    pub(super) fn new(content_end: u64) -> Self {
        Self {
            content_end,
            entries: Vec::new(),
            chunks: Vec::new(),
            places: HashMap::new(),
            opaque: Vec::new(),
            links: Vec::new(),
            open: None,
            content_len: 0,
        }
    }

    /// Takes the next entry of the table.
    pub(super) fn add(&mut self, document: &EntryDocument<'_>) -> Result<(), Fault> {
        let refuse = |reason: &'static str| Err(Fault::entry(&document.name, reason));
        if document.kind == KIND_CHUNK {
            let Some(pieces) = &mut self.open else {
                return refuse("it is a chunk that does not follow a regular file");
            };
            return pieces.follow(document);
        }
        self.close_file()?;
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Fault::table(format!("has more than {MAX_ENTRIES} entries")));
        }
        let path = names::normalise(&document.name).map_err(|reason| Fault::entry(&document.name, reason))?;
        match names::mark(path).map_err(|reason| Fault::entry(&document.name, reason))? {
            Mark::None => {}
            mark => return self.add_mark(document, mark),
        }
        let kind = match &*document.kind {
            "dir" => EntryKind::Directory { opaque: false },
            "reg" => return self.add_file(document, path),
            "symlink" => EntryKind::Symlink {
                target: symlink_target(document)?,
            },
            "hardlink" => {
                // Absolute targets mean the layer's root; some builders write them.
                let target =
                    names::normalise(document.link_name.trim_start_matches('/')).map_err(|reason| {
                        Fault::entry(&document.name, format!("as a hard link's target, {reason}"))
                    })?;
                self.links.push((self.entries.len() as u32, target.to_owned()));
                EntryKind::HardLink { target: u32::MAX }
            }
            "char" | "block" => return refuse("it is a device node; layers may not bring devices to a host"),
            "fifo" => return refuse("it is a FIFO; layers carry files, folders and links only"),
            _ => return refuse("its type is none that layers have"),
        };
        self.push(document, path.to_owned(), kind)
    }

    fn add_mark(&mut self, document: &EntryDocument<'_>, mark: Mark) -> Result<(), Fault> {
        if document.kind != "reg" || document.size != 0 {
            return Err(Fault::entry(
                &document.name,
                "a whiteout is an empty regular file, and this is none",
            ));
        }
        match mark {
            Mark::Opaque(folder) => {
                self.opaque.push(folder);
                if self.opaque.len() > MAX_ENTRIES {
                    return Err(Fault::table(format!("has more than {MAX_ENTRIES} entries")));
                }
                Ok(())
            }
            Mark::Whiteout(path) => self.push(document, path, EntryKind::Whiteout),
            Mark::None => Ok(()),
        }
    }

    fn add_file(&mut self, document: &EntryDocument<'_>, path: &str) -> Result<(), Fault> {
        let size = u64::try_from(document.size)
            .ok()
            .filter(|size| *size <= MAX_FILE_LEN)
            .ok_or_else(|| {
                Fault::entry(
                    &document.name,
                    format!("its size {} is out of bounds", document.size),
                )
            })?;
        self.content_len += size;
        if self.content_len > MAX_LAYER_CONTENT {
            return Err(Fault::table(format!(
                "announces more than {MAX_LAYER_CONTENT} bytes of content"
            )));
        }
        let first = self.chunks.len() as u32;
        let digest = if size == 0 {
            Digest::of(b"")
        } else {
            let digest = document
                .digest
                .parse()
                .map_err(|error| Fault::entry(&document.name, format!("its digest is wrong: {error}")))?;
            self.open = Some(Pieces::start(document, self.entries.len() as u32, size, digest)?);
            digest
        };
        self.push(
            document,
            path.to_owned(),
            EntryKind::File {
                size,
                digest,
                chunks: first..first,
            },
        )
    }

    fn push(&mut self, document: &EntryDocument<'_>, path: String, kind: EntryKind) -> Result<(), Fault> {
        let refuse = |reason: String| Fault::entry(&document.name, reason);
        let id = |number: i64, what| {
            // The highest number means "do not change" to the kernel.
            u32::try_from(number)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| refuse(format!("its {what} {number} is out of bounds")))
        };
        let mode = u32::try_from(document.mode)
            .map_err(|_| refuse(format!("its mode {} is wrong", document.mode)))?;
        let entry = TocEntry {
            mode: mode & 0o7777,
            uid: id(document.uid, "owner")?,
            gid: id(document.gid, "group")?,
            mtime: mtime(document)?,
            xattrs: xattrs(document)?,
            kind,
            path,
        };
        if entry.path.is_empty() && !matches!(entry.kind, EntryKind::Directory { .. }) {
            return Err(refuse("the layer's root can only be a folder".to_owned()));
        }
        match self.places.entry(entry.path.clone()) {
            MapEntry::Occupied(_) => return Err(refuse("its path is there twice".to_owned())),
            MapEntry::Vacant(place) => place.insert(self.entries.len() as u32),
        };
        self.entries.push(entry);
        Ok(())
    }

    /// Ends the regular file whose chunks were collected.
    fn close_file(&mut self) -> Result<(), Fault> {
        let Some(pieces) = self.open.take() else {
            return Ok(());
        };
        let index = pieces.entry() as usize;
        let added = pieces.finish(self.content_end, &mut self.chunks)?;
        if let EntryKind::File { chunks, .. } = &mut self.entries[index].kind {
            *chunks = added;
        }
        Ok(())
    }

    /// What can be checked only when everything is known.
    pub(super) fn finish(mut self) -> Result<Toc, Fault> {
        self.close_file()?;
        self.imply_directories()?;
        self.resolve_links()?;
        check_overlaps(&self.chunks, &self.entries)?;
        let mut by_path: Vec<u32> = (0..self.entries.len() as u32).collect();
        by_path.sort_unstable_by(|a, b| {
            self.entries[*a as usize]
                .path
                .cmp(&self.entries[*b as usize].path)
        });
        Ok(Toc {
            entries: self.entries,
            chunks: self.chunks,
            by_path,
            content_len: self.content_len,
        })
    }

    /// Adds folders that entries lie in and the table does not list; refuses entries that lie below anything else.
    fn imply_directories(&mut self) -> Result<(), Fault> {
        for index in 0..self.entries.len() {
            let path = self.entries[index].path.clone();
            if let Some(parent) = names::parent(&path) {
                self.require_directory(parent, &path)?;
            }
        }
        for folder in std::mem::take(&mut self.opaque) {
            let mark = names::join(&folder, names::OPAQUE_NAME);
            let index = self.require_directory(&folder, &mark)?;
            self.entries[index as usize].kind = EntryKind::Directory { opaque: true };
        }
        Ok(())
    }

    /// The entry of the folder `path`, made with all above it if the table does not list them.
    fn require_directory(&mut self, path: &str, below: &str) -> Result<u32, Fault> {
        if let Some(&index) = self.places.get(path) {
            return match self.entries[index as usize].kind {
                EntryKind::Directory { .. } => Ok(index),
                _ => Err(Fault::entry(
                    below,
                    format!("it lies below {path:?}, which is no folder"),
                )),
            };
        }
        if let Some(parent) = names::parent(path) {
            self.require_directory(parent, below)?;
        }
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Fault::table(format!("needs more than {MAX_ENTRIES} entries")));
        }
        let index = self.entries.len() as u32;
        self.places.insert(path.to_owned(), index);
        self.entries.push(TocEntry::implied_folder(path));
        Ok(index)
    }

    fn resolve_links(&mut self) -> Result<(), Fault> {
        let named: HashMap<u32, &str> = self
            .links
            .iter()
            .map(|(link, target)| (*link, target.as_str()))
            .collect();
        for (link, _) in &self.links {
            let mut at = *link;
            for _ in 0..MAX_LINK_STEPS {
                let Some(next) = named.get(&at).and_then(|target| self.places.get(*target)) else {
                    break;
                };
                at = *next;
            }
            let path = self.entries[*link as usize].path.clone();
            if !matches!(self.entries[at as usize].kind, EntryKind::File { .. }) {
                let target = names::readable(named[link]);
                let reason =
                    format!("it is a hard link to {target:?}, which is no regular file of this layer");
                return Err(Fault::entry(&path, reason));
            }
            self.entries[*link as usize].kind = EntryKind::HardLink { target: at };
        }
        Ok(())
    }
}

fn symlink_target(document: &EntryDocument<'_>) -> Result<String, Fault> {
    let target = &*document.link_name;
    if target.is_empty() || target.len() > MAX_SYMLINK_LEN || target.contains('\0') {
        return Err(Fault::entry(
            &document.name,
            "the target of a symbolic link has 1 to 4095 bytes and no NUL",
        ));
    }
    Ok(target.to_owned())
}

fn mtime(document: &EntryDocument<'_>) -> Result<Mtime, Fault> {
    let Some(text) = document.mod_time.as_deref() else {
        return Ok(Mtime::default());
    };
    // Go's zero time, which older writers put where there is none.
    if text == "0001-01-01T00:00:00Z" {
        return Ok(Mtime::default());
    }
    let wrong = || {
        Fault::entry(
            &document.name,
            format!("its time {:?} is no RFC 3339 time", names::readable(text)),
        )
    };
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    let nanoseconds = i128::from(time.as_second()) * 1_000_000_000 + i128::from(time.subsec_nanosecond());
    Ok(Mtime {
        seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).map_err(|_| wrong())?,
        nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
    })
}

fn xattrs(document: &EntryDocument<'_>) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let Some(encoded) = &document.xattrs else {
        return Ok(Vec::new());
    };
    let mut xattrs = Vec::new();
    for (name, value) in encoded.iter().filter(|(name, _)| names::carries_xattr(name)) {
        let value = BASE64_STANDARD.decode(value).map_err(|_| {
            Fault::entry(
                &document.name,
                format!("its extended attribute {name:?} is no base64"),
            )
        })?;
        xattrs.push((name.clone(), value));
    }
    names::check_xattrs(&xattrs).map_err(|reason| Fault::entry(&document.name, reason))?;
    Ok(xattrs)
}
