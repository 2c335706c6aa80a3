//! A blob in the `zstd:chunked` layout in the making: tar bytes go in, the frames, the table of contents and the
//! footer come out (containers/storage, `pkg/chunked/compressor`).

use std::borrow::Cow;
use std::io::{self, Read};

use gantry_model::{Digest, LayerDescriptor, TocLocation};

use super::cut::next_cut;
use super::footer;
use super::frame::{COMPRESSION_LEVEL, SKIPPABLE_HEADER_LEN, skippable_header};
use super::pipeline::{Frame, Outcome, Piece, Pipeline};
use crate::limits::{MAX_CHUNK_LEN, MAX_TOC_LEN};
use crate::toc::document::{CHUNK_TYPE_ZEROS, EntryDocument, KIND_CHUNK, TocDocument, VERSION};
use crate::{LayerError, Store, StoreError, Toc};

/// Headers are compressed when this many have come together without file content between them.
const MAX_HEADERS_LEN: usize = 1 << 20;

/// The blob in the making.
pub(crate) struct ChunkedBlob {
    /// None once it failed.
    pipeline: Option<Pipeline>,
    /// Tar bytes that are no file content, not handed in yet.
    headers: Vec<u8>,
    /// Chunks handed in.
    chunks: usize,
    /// Files of several chunks handed in.
    chunked_files: usize,
}

/// The chunks of one file that was handed in.
#[derive(Debug, Default)]
pub(crate) struct Content {
    size: u64,
    first: usize,
    cuts: Vec<(u64, bool)>,
    /// Which of the files of several chunks it is.
    chunked_file: Option<usize>,
}

/// One line of the table of contents, with the content of a regular file.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) document: EntryDocument<'static>,
    pub(crate) content: Content,
}

impl ChunkedBlob {
    pub(crate) fn new(store: &Store) -> Result<Self, LayerError> {
        let pipeline = Pipeline::start(store.blobs().writer()?)?;
        Ok(Self {
            pipeline: Some(pipeline),
            headers: Vec::new(),
            chunks: 0,
            chunked_files: 0,
        })
    }

    /// Tar bytes that are no file content.
    pub(crate) fn headers(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.headers.extend(bytes);
        if self.headers.len() >= MAX_HEADERS_LEN {
            self.flush_headers()
        } else {
            Ok(())
        }
    }

    /// The `size` bytes of a file, which `content` gives.
    ///
    /// # Errors
    /// The inner error is of `content`: it fails or ends early.
    pub(crate) fn content(
        &mut self,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Result<Content, io::Error>, LayerError> {
        let mut done = Content {
            size,
            first: self.chunks,
            ..Content::default()
        };
        if size == 0 {
            return Ok(Ok(done));
        }
        self.flush_headers()?;
        let (mut unread, mut buffer) = (size, Vec::new());
        while unread > 0 || !buffer.is_empty() {
            let room = u64::from(MAX_CHUNK_LEN) - buffer.len() as u64;
            let wanted = room.min(unread);
            buffer.reserve_exact(wanted as usize);
            match content.take(wanted).read_to_end(&mut buffer) {
                Ok(read) if read as u64 == wanted => unread -= wanted,
                Ok(_) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Ok(Err(error)),
            }
            let cut = next_cut(&buffer);
            let rest = buffer.split_off(cut.len);
            let last = unread == 0 && rest.is_empty();
            let alone = last && done.cuts.is_empty();
            done.cuts.push((cut.len as u64, cut.zeros));
            self.push(
                std::mem::replace(&mut buffer, rest),
                Piece::Content { alone, last },
            )?;
            self.chunks += 1;
        }
        if done.cuts.len() > 1 {
            done.chunked_file = Some(self.chunked_files);
            self.chunked_files += 1;
        }
        Ok(Ok(done))
    }

    /// Ends the blob with the table of contents made of `records`, checks that table as a receiver would, and puts
    /// the blob into the store.
    pub(crate) fn finish(mut self, records: Vec<Record>) -> Result<LayerDescriptor, LayerError> {
        self.flush_headers()?;
        let Outcome {
            mut blob,
            diff_id,
            frames,
            files,
        } = self.pipeline.take().ok_or_else(given_up)?.finish()?;
        let (toc, location) = table(records, &frames, &files, blob.len())?;
        let path = blob.path().to_owned();
        let write = |blob: &mut dyn io::Write, bytes: &[u8]| {
            blob.write_all(bytes).map_err(StoreError::io("write", &path))
        };
        write(&mut blob, &skippable_header(toc.len() as u32))?;
        write(&mut blob, &toc)?;
        write(&mut blob, &footer::encode(&location))?;
        Toc::parse(&toc, &location).map_err(|error| LayerError::Entry {
            path: "the new layer".to_owned(),
            reason: error.to_string(),
        })?;
        let (digest, size) = blob.finish()?;
        Ok(LayerDescriptor {
            digest,
            size,
            diff_id,
            toc: location,
        })
    }

    fn flush_headers(&mut self) -> Result<(), LayerError> {
        if self.headers.is_empty() {
            return Ok(());
        }
        let headers = std::mem::take(&mut self.headers);
        self.push(headers, Piece::Headers)
    }

    fn push(&mut self, bytes: Vec<u8>, piece: Piece) -> Result<(), LayerError> {
        let pipeline = self.pipeline.as_ref().ok_or_else(given_up)?;
        if pipeline.push(bytes, piece) {
            return Ok(());
        }
        // Its threads have stopped, and know why.
        match self.pipeline.take().map(Pipeline::finish) {
            Some(Err(error)) => Err(error),
            _ => Err(given_up()),
        }
    }
}

impl Drop for ChunkedBlob {
    /// The unfinished blob is gone when this returns, and with it its lock on the store.
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.give_up();
        }
    }
}

fn given_up() -> LayerError {
    LayerError::Tar {
        reason: "writing its blob failed before".to_owned(),
    }
}

/// The compressed table of contents, and where it lies in a blob whose content is `content_len` bytes long.
fn table(
    records: Vec<Record>,
    frames: &[Frame],
    files: &[Digest],
    content_len: u64,
) -> Result<(Vec<u8>, TocLocation), LayerError> {
    let mut entries = Vec::with_capacity(records.len());
    for Record { document, content } in records {
        entries_of(document, &content, frames, files, &mut entries);
    }
    let too_large = |len: u64| LayerError::Entry {
        path: "the new layer".to_owned(),
        reason: format!(
            "its table of contents has {len} bytes, at most {MAX_TOC_LEN} are allowed; split the layer"
        ),
    };
    let failed = |error: io::Error| LayerError::Tar {
        reason: error.to_string(),
    };
    let document = TocDocument {
        version: VERSION,
        entries: &entries,
    };
    let json = serde_json::to_vec(&document).map_err(|error| failed(error.into()))?;
    if json.len() as u64 > MAX_TOC_LEN {
        return Err(too_large(json.len() as u64));
    }
    let toc = zstd::bulk::compress(&json, COMPRESSION_LEVEL).map_err(failed)?;
    let location = TocLocation {
        offset: content_len + SKIPPABLE_HEADER_LEN,
        compressed_len: toc.len() as u64,
        len: json.len() as u64,
        digest: Digest::of(&toc),
    };
    Ok((toc, location))
}

fn entries_of(
    mut first: EntryDocument<'static>,
    content: &Content,
    frames: &[Frame],
    files: &[Digest],
    entries: &mut Vec<EntryDocument<'static>>,
) {
    let frames = &frames[content.first..][..content.cuts.len()];
    let (Some(start), Some(end)) = (frames.first(), frames.last()) else {
        entries.push(first);
        return;
    };
    let end_of = |frame: &Frame| (frame.offset + u64::from(frame.len)) as i64;
    let digest = content
        .chunked_file
        .map_or(start.digests.sha256, |file| files[file]);
    first.size = content.size as i64;
    first.digest = Cow::Owned(digest.to_string());
    first.offset = start.offset as i64;
    first.end_offset = end_of(end);
    let alone = frames.len() == 1;
    let name = first.name.clone();
    let at = entries.len();
    entries.push(first);
    let mut chunk_offset = 0;
    for (index, (frame, (len, zeros))) in frames.iter().zip(&content.cuts).enumerate() {
        if index > 0 {
            let kind = Cow::Borrowed(KIND_CHUNK);
            let end_offset = end_of(frame);
            entries.push(EntryDocument {
                kind,
                name: name.clone(),
                end_offset,
                ..EntryDocument::default()
            });
        }
        let entry = &mut entries[at + index];
        if let Some(blake3) = frame.digests.blake3.filter(|_| !zeros) {
            entry.blake3 = Cow::Owned(blake3.to_string());
        }
        if alone && !zeros {
            break;
        }
        entry.offset = frame.offset as i64;
        entry.chunk_offset = chunk_offset;
        entry.chunk_size = *len as i64;
        entry.chunk_digest = Cow::Owned(frame.digests.sha256.to_string());
        entry.chunk_type = Cow::Borrowed(if *zeros { CHUNK_TYPE_ZEROS } else { "" });
        chunk_offset += *len as i64;
    }
}
