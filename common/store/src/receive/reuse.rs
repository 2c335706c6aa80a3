//! Files that other layers of the store have: taken by hard link, by reflink, or by a verified copy.
//!
//! Two files are the same when their chunk lists are. The digest of a whole file in a table of contents is what the
//! layer's maker states; only chunks were verified on arrival, so a lie there must not decide what other layers get.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use gantry_model::Digest;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use super::LayerReceiver;
use super::tree::Tree;
use crate::check_layer::is_right;
use crate::limits::MAX_CHUNK_LEN;
use crate::toc::{Chunk, ChunkDigest, EntryKind, Toc, TocEntry};
use crate::verified::Verified;
use crate::{LayerError, Store};

/// What a file's content is: the digest of its list of chunks.
type ContentId = Digest;

impl LayerReceiver {
    /// Takes what other layers have of what is missing. Trouble with another layer is no trouble of this one: then its
    /// files travel.
    pub(super) fn take_from_other_layers(&self, store: &Store) {
        let mut wanted = self.wanted_files();
        if wanted.is_empty() {
            return;
        }
        let layers = store.layers().unwrap_or_default();
        let mut links = HashSet::new();
        for layer in layers.iter().filter(|layer| **layer != self.layer.digest) {
            if let Err(error) = self.take_from(store, layer, &mut wanted, &mut links) {
                tracing::debug!(%layer, %error, "its files cannot be reused");
            }
            if wanted.is_empty() {
                return;
            }
        }
    }

    /// Files of which nothing is here, by content.
    fn wanted_files(&self) -> HashMap<ContentId, Vec<u32>> {
        let mut wanted: HashMap<ContentId, Vec<u32>> = HashMap::new();
        for (index, entry) in self.toc.entries().iter().enumerate() {
            let chunks = chunks_of(&self.toc, entry);
            let first = match &entry.kind {
                EntryKind::File { chunks, .. } => chunks.start,
                _ => continue,
            };
            let data = |at: usize| !chunks[at].zeros;
            let nothing_here = (0..chunks.len()).all(|at| !data(at) || !self.received.has(first + at as u32));
            if (0..chunks.len()).any(data) && nothing_here {
                wanted.entry(content_id(chunks)).or_default().push(index as u32);
            }
        }
        wanted
    }

    fn take_from(
        &self,
        store: &Store,
        layer: &Digest,
        wanted: &mut HashMap<ContentId, Vec<u32>>,
        links: &mut HashSet<(u64, u64)>,
    ) -> Result<(), LayerError> {
        let (toc, descriptor) = (store.layer_toc(layer)?, store.layer_descriptor(layer)?);
        let dir = store.layer_dir(layer);
        let tree = Tree::open(&dir).map_err(LayerError::io("open", &dir))?;
        let path = store.verified_path(layer);
        let mut known = Known {
            verified: Verified::read(&path, &toc, &descriptor.toc.digest),
            renewed: false,
        };
        for (index, entry) in toc.entries().iter().enumerate() {
            let chunks = chunks_of(&toc, entry);
            if chunks.is_empty() {
                continue;
            }
            let id = content_id(chunks);
            let Some(targets) = wanted.get_mut(&id) else {
                continue;
            };
            targets.retain(|target| {
                let source = Source {
                    tree: &tree,
                    entry,
                    index: index as u32,
                    chunks,
                };
                match self.take_file(&source, *target, links, &mut known) {
                    Ok(taken) => !taken,
                    Err(error) => {
                        let path = tree.display(&entry.path);
                        tracing::debug!(path = %path.display(), %error, "cannot be reused");
                        true
                    }
                }
            });
            if targets.is_empty() {
                wanted.remove(&id);
            }
        }
        if known.renewed {
            known.verified.write(&path, &descriptor.toc.digest)?;
        }
        Ok(())
    }

    /// Takes one file. False when the source is not what its layer says it is.
    fn take_file(
        &self,
        source: &Source<'_>,
        target: u32,
        links: &mut HashSet<(u64, u64)>,
        known: &mut Known,
    ) -> io::Result<bool> {
        let entry = &self.toc.entries()[target as usize];
        let EntryKind::File { size, chunks, .. } = &entry.kind else {
            return Ok(false);
        };
        let from = File::from(
            source
                .tree
                .open_at(&source.entry.path, OFlags::RDONLY | OFlags::NONBLOCK)?,
        );
        let stat = rustix::fs::fstat(&from)?;
        let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !file || stat.st_size.cast_unsigned() != *size {
            return Ok(false);
        }
        // What is damaged there must not be damaged here, too.
        let sound = known.verified.is(source.index, &from.metadata()?) || is_all_right(&from, source.chunks)?;
        // One link per file and layer: two names of this layer must not become one file.
        let inode = (stat.st_dev, stat.st_ino);
        let linked = sound
            && same_metadata(source.entry, entry, &stat)
            && !links.contains(&inode)
            && self.link(source, &entry.path).is_ok();
        if linked {
            links.insert(inode);
            // Another name is another time of change.
            known.verified.set(source.index, &from.metadata()?);
            known.renewed = true;
        } else {
            let to = self.tree.file_for_writing(&entry.path, *size)?;
            if !sound || rustix::fs::ioctl_ficlone(&to, &from).is_err() {
                return self.copy_verified(&from, &to, target);
            }
            self.files.written(target);
        }
        for chunk in chunks.clone() {
            self.count(chunk, true);
        }
        Ok(true)
    }

    fn link(&self, source: &Source<'_>, path: &str) -> io::Result<()> {
        let (from, from_name) = source.tree.parent(&source.entry.path)?;
        self.tree.unlink(path)?;
        let (to, to_name) = self.tree.parent(path)?;
        Ok(rustix::fs::linkat(
            from,
            from_name,
            to,
            to_name,
            AtFlags::empty(),
        )?)
    }

    /// Copies chunk by chunk. The bytes pass through memory anyway, so they are verified on the way; a chunk that is
    /// not right stays missing.
    fn copy_verified(&self, from: &File, to: &File, target: u32) -> io::Result<bool> {
        let EntryKind::File { chunks, .. } = &self.toc.entries()[target as usize].kind else {
            return Ok(false);
        };
        let mut buffer = vec![0; MAX_CHUNK_LEN as usize];
        let mut whole = true;
        self.files.written(target);
        for index in chunks.clone() {
            let chunk = self.toc.chunks()[index as usize];
            if !chunk.zeros {
                let bytes = &mut buffer[..chunk.len as usize];
                from.read_exact_at(bytes, chunk.file_offset)?;
                if !chunk.digest.is_of(bytes) {
                    whole = false;
                    continue;
                }
                to.write_all_at(bytes, chunk.file_offset)?;
            }
            self.count(index, true);
        }
        Ok(whole)
    }
}

struct Source<'s> {
    tree: &'s Tree,
    entry: &'s TocEntry,
    index: u32,
    chunks: &'s [Chunk],
}

/// What is known of the layer that files are taken from.
struct Known {
    verified: Verified,
    /// Whether it is more than what is recorded.
    renewed: bool,
}

/// Whether all of a file is what its layer says.
fn is_all_right(file: &File, chunks: &[Chunk]) -> io::Result<bool> {
    let mut buffer = Vec::new();
    for chunk in chunks {
        if !is_right(file, chunk, &mut buffer)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn chunks_of<'t>(toc: &'t Toc, entry: &TocEntry) -> &'t [Chunk] {
    match &entry.kind {
        EntryKind::File { chunks, .. } => &toc.chunks()[chunks.start as usize..chunks.end as usize],
        _ => &[],
    }
}

/// What the content of a file with these chunks is.
pub(crate) fn content_id(chunks: &[Chunk]) -> ContentId {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(chunk.len.to_le_bytes());
        hasher.update([u8::from(chunk.zeros)]);
        if !chunk.zeros {
            // The kind too: what stands in a table without having been verified on arrival proves nothing here.
            hasher.update([u8::from(matches!(chunk.digest, ChunkDigest::Blake3(_)))]);
            hasher.update(chunk.digest.as_bytes());
        }
    }
    Digest::from_bytes(hasher.finalize().into())
}

/// Whether one inode can be both: both layers say the same, and the file on disk still is what its layer says.
fn same_metadata(a: &TocEntry, b: &TocEntry, stat: &Stat) -> bool {
    let said =
        a.mode == b.mode && (a.uid, a.gid) == (b.uid, b.gid) && a.mtime == b.mtime && a.xattrs == b.xattrs;
    said && stat.st_mode & 0o7777 == a.mode && stat.st_mtime == a.mtime.seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toc::Blake3;

    fn chunk(digest: ChunkDigest) -> Chunk {
        Chunk {
            entry: 0,
            file_offset: 0,
            len: 100_000,
            digest,
            blob_offset: 0,
            compressed_len: 10,
            zeros: false,
        }
    }

    /// A table may state a SHA-256 beside the BLAKE3 that was verified. If that one counted, an image could plant
    /// its bytes under the name of another image's.
    #[test]
    fn content_is_the_same_only_by_the_digest_that_was_verified() {
        let bytes = [7; 32];
        let sha256 = ChunkDigest::Sha256(Digest::from_bytes(bytes));
        let hex = Digest::from_bytes(bytes).hex();
        let blake3 = ChunkDigest::Blake3(hex.parse::<Blake3>().unwrap());
        assert_eq!(sha256.as_bytes(), blake3.as_bytes());
        assert_ne!(content_id(&[chunk(sha256)]), content_id(&[chunk(blake3)]));
    }
}
