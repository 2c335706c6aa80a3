//! This module owns [`TarStream`]: an archive as a list of pieces, whose size is known before any of them is read.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::ops::Range;

use gantry_model::Digest;
use sha2::{Digest as _, Sha256};

use super::SaveEvent;
use super::intake::decompressed;
use super::parts::{Extent, PartsIndex, overlap};
use crate::limits::MAX_TAR_LEN;
use crate::{Store, StoreError};

const BUFFER_LEN: usize = 1 << 18;
const BLOCK_LEN: u64 = 512;
/// Two blocks of zeros end a tar stream (POSIX.1).
const END: [u8; 2 * BLOCK_LEN as usize] = [0; 2 * BLOCK_LEN as usize];

/// An archive to be written.
#[derive(Default)]
pub(super) struct TarStream {
    pieces: Vec<Piece>,
    len: u64,
    /// Where the files of an OCI layout lie, by their paths.
    places: Vec<(String, Extent)>,
}

enum Piece {
    Bytes(Vec<u8>),
    /// A blob as it is.
    Blob {
        digest: Digest,
        size: u64,
    },
    /// The tar stream that a blob becomes when it is decompressed.
    Layer(LayerTar),
}

/// The tar stream of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerTar {
    /// Digest of the blob.
    pub(super) blob: Digest,
    /// Digest of the stream.
    pub(super) diff_id: Digest,
    /// Bytes of the stream.
    pub(super) size: u64,
}

impl Piece {
    const fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob { size, .. } => *size,
            Self::Layer(layer) => layer.size,
        }
    }
}

impl TarStream {
    pub(super) fn folder(&mut self, path: &str) {
        self.header(path, 0, tar::EntryType::Directory);
    }

    pub(super) fn file(&mut self, path: &str, bytes: Vec<u8>) {
        let size = bytes.len() as u64;
        self.place(path, Digest::of(&bytes), size);
        self.content(path, size, Piece::Bytes(bytes));
    }

    pub(super) fn blob(&mut self, path: &str, digest: Digest, size: u64) {
        self.place(path, digest, size);
        self.content(path, size, Piece::Blob { digest, size });
    }

    pub(super) fn layer(&mut self, path: &str, layer: LayerTar) {
        self.content(path, layer.size, Piece::Layer(layer));
    }

    pub(super) fn end(&mut self) {
        self.push(Piece::Bytes(END.to_vec()));
    }

    /// Writes everything. What comes out of the store is verified on its way.
    pub(super) fn write(
        &self,
        store: &Store,
        mut out: impl Write,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        event(SaveEvent::Planned { total: self.len });
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => {
                    out.write_all(bytes).map_err(cannot_write)?;
                    event(SaveEvent::Written {
                        len: bytes.len() as u64,
                    });
                }
                Piece::Blob { digest, size } => {
                    let file = store.blobs().open(digest, "part of an image")?;
                    let what = store.blobs().path(digest).display().to_string();
                    copy_verified(file, digest, *size, &what, &mut out, event)?;
                }
                Piece::Layer(layer) => {
                    let what = format!("tar stream of layer {}", layer.blob);
                    let stream = open_layer(store, &layer.blob, &what)?;
                    copy_verified(stream, &layer.diff_id, layer.size, &what, &mut out, event)?;
                }
            }
        }
        out.flush().map_err(cannot_write)
    }

    /// Writes the bytes in `range`. A blob that is not in `verified` is verified first, for only some of it may be written.
    pub(super) fn write_range(
        &self,
        store: &Store,
        range: Range<u64>,
        verified: &mut BTreeSet<Digest>,
        out: &mut impl Write,
        event: &mut dyn FnMut(SaveEvent),
    ) -> Result<(), StoreError> {
        let mut at = 0;
        for piece in &self.pieces {
            let place = at..at + piece.len();
            at = place.end;
            let Some(common) = overlap(&place, &range) else {
                continue;
            };
            let (start, end) = (common.start - place.start, common.end - place.start);
            match piece {
                Piece::Bytes(bytes) => {
                    let bytes = &bytes[start as usize..end as usize];
                    out.write_all(bytes).map_err(cannot_write)?;
                    event(SaveEvent::Written { len: end - start });
                }
                Piece::Blob { digest, size } => {
                    let what = store.blobs().path(digest).display().to_string();
                    if verified.insert(*digest) && store.blobs().verify(digest, "part of an image")? != *size
                    {
                        return Err(wrong_size(&what, *size, "another size"));
                    }
                    let mut file = store.blobs().open(digest, "part of an image")?;
                    file.seek(SeekFrom::Start(start))
                        .map_err(StoreError::io("read", &what))?;
                    let copied = copy_hashed(file.take(end - start), &what, |bytes| {
                        out.write_all(bytes).map_err(cannot_write)?;
                        event(SaveEvent::Written {
                            len: bytes.len() as u64,
                        });
                        Ok(())
                    });
                    if copied?.1 < end - start {
                        return Err(wrong_size(&what, *size, "it became shorter"));
                    }
                }
                Piece::Layer(_) => {
                    return Err(StoreError::malformed(
                        "docker archive",
                        "it is not written in parts",
                    ));
                }
            }
        }
        Ok(())
    }

    /// An index of the parts of this archive, if it has this name and is cut so.
    pub(super) fn parts_index(&self, archive: &str, part_size: u64) -> Result<PartsIndex, StoreError> {
        let index = self.places.iter().find(|(path, _)| path == "index.json");
        let (_, index) = index.expect("an OCI layout has an index");
        let blobs = self.places.iter().filter(|(path, _)| path.starts_with("blobs/"));
        let blobs = blobs.map(|(_, extent)| *extent).collect();
        PartsIndex::new(archive, self.len, part_size, *index, blobs)
    }

    /// Notes where the content of the file at `path` will lie: behind its header.
    fn place(&mut self, path: &str, digest: Digest, size: u64) {
        let extent = Extent {
            digest,
            offset: self.len + BLOCK_LEN,
            size,
        };
        self.places.push((path.to_owned(), extent));
    }

    fn content(&mut self, path: &str, size: u64, piece: Piece) {
        self.header(path, size, tar::EntryType::Regular);
        self.push(piece);
        let padding = size.next_multiple_of(BLOCK_LEN) - size;
        self.push(Piece::Bytes(END[..padding as usize].to_vec()));
    }

    /// Nobody's time, root's file: the archive depends on its images only.
    fn header(&mut self, path: &str, size: u64, kind: tar::EntryType) {
        let mut header = tar::Header::new_gnu();
        header
            .set_path(path)
            .expect("paths of archives are short and have no ..");
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.push(Piece::Bytes(header.as_bytes().to_vec()));
    }

    fn push(&mut self, piece: Piece) {
        self.len += piece.len();
        self.pieces.push(piece);
    }
}

/// How long the tar stream of the layer in `blob` is. All of it is read, and compared with `diff_id`.
pub(super) fn measure(store: &Store, blob: &Digest, diff_id: &Digest) -> Result<LayerTar, StoreError> {
    let what = format!("tar stream of layer {blob}");
    let mut stream = open_layer(store, blob, &what)?;
    let (found, size) = copy_hashed(&mut stream, &what, |_| Ok(()))?;
    if found != *diff_id {
        return Err(StoreError::WrongDigest {
            what,
            expected: *diff_id,
            found,
        });
    }
    Ok(LayerTar {
        blob: *blob,
        diff_id: *diff_id,
        size,
    })
}

pub(super) fn open_layer(store: &Store, blob: &Digest, what: &str) -> Result<impl Read + use<>, StoreError> {
    Ok(decompressed(store.blobs().open(blob, "image layer")?, what)?.take(MAX_TAR_LEN))
}

/// Copies `content`, which has to have this digest and size.
pub(super) fn copy_verified(
    content: impl Read,
    digest: &Digest,
    size: u64,
    what: &str,
    out: &mut impl Write,
    event: &mut dyn FnMut(SaveEvent),
) -> Result<(), StoreError> {
    let mut len = 0;
    let mut write = |bytes: &[u8]| {
        len += bytes.len() as u64;
        if len > size {
            return Err(wrong_size(what, size, "there is more"));
        }
        out.write_all(bytes).map_err(cannot_write)?;
        event(SaveEvent::Written {
            len: bytes.len() as u64,
        });
        Ok(())
    };
    let (found, len) = copy_hashed(content, what, &mut write)?;
    if len < size {
        return Err(wrong_size(what, size, &format!("{len} bytes")));
    }
    if found != *digest {
        return Err(StoreError::WrongDigest {
            what: what.to_owned(),
            expected: *digest,
            found,
        });
    }
    Ok(())
}

fn copy_hashed(
    mut content: impl Read,
    what: &str,
    mut write: impl FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(Digest, u64), StoreError> {
    let (mut hasher, mut len, mut buffer) = (Sha256::new(), 0, vec![0; BUFFER_LEN]);
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hasher.finalize().into()), len)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                len += read as u64;
                write(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                let what = what.to_owned();
                return Err(StoreError::Read { what, source });
            }
        }
    }
}

fn wrong_size(what: &str, expected: u64, found: &str) -> StoreError {
    StoreError::WrongSize {
        what: what.to_owned(),
        expected,
        found: found.to_owned(),
    }
}

pub(super) fn cannot_write(source: io::Error) -> StoreError {
    StoreError::Write {
        what: "the archive".to_owned(),
        source,
    }
}
