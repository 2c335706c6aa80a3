//! This module owns [`Entries`]: the entries of an archive's tar stream, one at a time. Only a parser: nothing is
//! unpacked, and what a header may ask for is bounded.
//!
//! Where readers of tar understand a stream differently, it is refused rather than guessed.

use std::io::{self, Read};

use crate::StoreError;
use crate::layer_import::pax::{self, Pax};
use crate::limits::{MAX_ARCHIVE_ENTRIES, MAX_TAR_HEADER_LEN, MAX_TAR_LEN};

const BLOCK_LEN: usize = 512;
/// Where a header has its checksum (POSIX.1, ustar).
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// Where a header has the kind of its entry.
const KIND: usize = 156;
/// Longest path that is looked at, bytes.
pub(super) const MAX_PATH_LEN: usize = 1024;
/// Most bytes behind the end that are read, so that whoever writes into a pipe can finish.
const MAX_TRAILER_LEN: u64 = 16 << 20;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// A regular file.
    File,
    /// A link to this path; a symbolic one is relative to its own folder.
    Link { target: String, symbolic: bool },
    /// A folder, or something that archives of images have no use for.
    Other,
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its path, without `.` and double slashes; it has no `..` and is not absolute.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: EntryKind,
    /// Bytes of content.
    pub(super) size: u64,
    /// Its header as it came.
    pub(super) header: [u8; BLOCK_LEN],
    /// The records of its PAX header, if it has one.
    pub(super) pax: Vec<u8>,
}

/// The entries of a tar stream, in order.
pub(super) struct Entries<'a, R> {
    tar: io::Take<R>,
    /// How the archive is called in errors.
    archive: &'a str,
    /// Bytes of the current entry's content that nobody read yet.
    left: u64,
    padding: u64,
    count: usize,
    limit: usize,
    back: Option<Entry>,
}

impl<'a, R: Read> Entries<'a, R> {
    pub(super) fn new(tar: R, archive: &'a str) -> Self {
        Self {
            tar: tar.take(MAX_TAR_LEN),
            archive,
            left: 0,
            padding: 0,
            count: 0,
            limit: MAX_ARCHIVE_ENTRIES,
            back: None,
        }
    }

    /// The next entry; none at the end. What nobody read of the one before is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if let Some(entry) = self.back.take() {
            return Ok(Some(entry));
        }
        let behind = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut self.tar.by_ref().take(behind), &mut io::sink());
        // Some writers leave out the padding at the very end.
        if skipped.map_err(|error| self.unreadable(error))? + BLOCK_LEN as u64 <= behind {
            return Err(self.cut_short("it ends inside an entry"));
        }
        let (mut long_name, mut long_link, mut pax) = (None, None, None);
        loop {
            self.count += 1;
            if self.count > self.limit {
                let limit = self.limit;
                let reason = format!("it has more than {limit} entries, the most that are accepted");
                return Err(StoreError::malformed(self.archive, reason));
            }
            let mut block = [0; BLOCK_LEN];
            let len = self.fill(&mut block)?;
            if len == 0 || (len == BLOCK_LEN && block.iter().all(|byte| *byte == 0)) {
                self.read_trailer()?;
                return Ok(None);
            }
            if len < BLOCK_LEN || !sum_is_right(&block) {
                return Err(self.broken_header(len));
            }
            let header = tar::Header::from_byte_slice(&block);
            let place = match block[KIND] {
                b'x' => &mut pax,
                b'L' => &mut long_name,
                b'K' => &mut long_link,
                // It speaks of the archive as a whole.
                b'g' => &mut None,
                _ => return self.entry(header, pax, long_name, long_link).map(Some),
            };
            let text = self.long(header)?;
            if place.replace(text).is_some() {
                let reason = "an entry has two headers of the same kind";
                return Err(StoreError::malformed(self.archive, reason));
            }
        }
    }

    /// Gives the entry that came last once more. Nothing of its content was read.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.back = Some(entry);
    }

    /// Allows so many entries more than came until now.
    pub(super) fn allow(&mut self, more: usize) {
        self.limit = self.count + more;
    }

    /// Bytes between the content of the entry that came last and the next header.
    pub(super) const fn padding(&self) -> usize {
        self.padding as usize
    }

    /// The content of the entry that came last.
    pub(super) fn content(&mut self) -> Content<'_, R> {
        Content {
            tar: &mut self.tar,
            left: &mut self.left,
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        pax: Option<Vec<u8>>,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, StoreError> {
        let malformed = |reason: &str| StoreError::malformed(self.archive, reason);
        let pax_bytes = pax.clone().unwrap_or_default();
        let pax = match &pax {
            Some(bytes) => Pax::parse(bytes).ok_or_else(|| malformed("a PAX header does not add up"))?,
            None => Pax::default(),
        };
        let said = |key: &str| pax.get(key).map(<[u8]>::to_vec);
        let name = said("path")
            .or(long_name)
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let name = entry_name(trimmed(&name), self.archive)?;
        let sparse = header.as_bytes()[KIND] == b'S' || pax.with_prefix("GNU.sparse.").next().is_some();
        if sparse {
            let reason =
                format!("entry {name:?} is stored as a sparse file; make the archive without --sparse");
            return Err(StoreError::malformed(self.archive, reason));
        }
        let size = match pax.get("size") {
            Some(size) => pax::number(size),
            None => header.entry_size().ok(),
        };
        let size = size.filter(|size| *size <= MAX_TAR_LEN).ok_or_else(|| {
            malformed(&format!(
                "the size of entry {name:?} is no number up to {MAX_TAR_LEN}"
            ))
        })?;
        let kind = match header.as_bytes()[KIND] {
            b'\0' | b'0' | b'7' => EntryKind::File,
            kind @ (b'1' | b'2') => {
                let target = said("linkpath").or(long_link);
                let target = target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                EntryKind::Link {
                    target: String::from_utf8_lossy(trimmed(&target.unwrap_or_default())).into_owned(),
                    symbolic: kind == b'2',
                }
            }
            _ => EntryKind::Other,
        };
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK_LEN as u64) - size;
        Ok(Entry {
            name,
            kind,
            size,
            header: *header.as_bytes(),
            pax: pax_bytes,
        })
    }

    /// The content of a header that is text.
    fn long(&mut self, header: &tar::Header) -> Result<Vec<u8>, StoreError> {
        let size = header
            .entry_size()
            .ok()
            .filter(|size| *size <= MAX_TAR_HEADER_LEN);
        let Some(size) = size else {
            let reason =
                format!("a header is longer than {MAX_TAR_HEADER_LEN} bytes, the most that are accepted");
            return Err(StoreError::malformed(self.archive, reason));
        };
        let mut text = vec![0; size.next_multiple_of(BLOCK_LEN as u64) as usize];
        if self.fill(&mut text)? < text.len() {
            return Err(self.cut_short("it ends inside a header"));
        }
        text.truncate(size as usize);
        Ok(text)
    }

    fn read_trailer(&mut self) -> Result<(), StoreError> {
        let read = io::copy(&mut self.tar.by_ref().take(MAX_TRAILER_LEN), &mut io::sink());
        read.map(drop).map_err(|error| self.unreadable(error))
    }

    /// Reads until `buffer` is full or the stream ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let mut len = 0;
        while len < buffer.len() {
            match self.tar.read(&mut buffer[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        Ok(len)
    }

    fn broken_header(&self, len: usize) -> StoreError {
        match self.count {
            1 => StoreError::malformed(self.archive, "it is no tar archive"),
            _ if len < BLOCK_LEN => self.cut_short("it ends inside a header"),
            _ => self.cut_short("the checksum of a header is wrong"),
        }
    }

    fn cut_short(&self, reason: &str) -> StoreError {
        StoreError::CutShort {
            what: self.archive.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn unreadable(&self, error: io::Error) -> StoreError {
        unreadable(self.archive, error)
    }
}

/// An archive that does not decompress is damaged; a disk that does not answer is another matter.
pub(super) fn unreadable(what: &str, source: io::Error) -> StoreError {
    if source.raw_os_error().is_some() {
        let what = what.to_owned();
        return StoreError::Read { what, source };
    }
    StoreError::CutShort {
        what: what.to_owned(),
        reason: source.to_string(),
    }
}

/// The content of one entry. It ends early where the archive does.
pub(super) struct Content<'e, R> {
    tar: &'e mut io::Take<R>,
    left: &'e mut u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer
            .len()
            .min(usize::try_from(*self.left).unwrap_or(usize::MAX));
        let read = self.tar.read(&mut buffer[..len])?;
        *self.left -= read as u64;
        if read == 0 && len > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it ends inside an entry",
            ));
        }
        Ok(read)
    }
}

fn sum_is_right(block: &[u8; BLOCK_LEN]) -> bool {
    let sum = (0_usize..).zip(block);
    let sum: u32 = sum
        .map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte })
        .map(u32::from)
        .sum();
    let header = tar::Header::from_byte_slice(block);
    header.cksum().is_ok_and(|said| said == sum)
}

/// GNU's long names end with a NUL.
fn trimmed(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())]
}

fn entry_name(bytes: &[u8], archive: &str) -> Result<String, StoreError> {
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(96)]).into_owned();
    let refused = |reason: &str| {
        Err(StoreError::malformed(
            archive,
            format!("entry {:?} {reason}", shown()),
        ))
    };
    if bytes.len() > MAX_PATH_LEN {
        return refused("has a path longer than 1,024 bytes");
    }
    let Ok(name) = std::str::from_utf8(bytes) else {
        return refused("has a name that is not UTF-8");
    };
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return refused("leads outside of the archive");
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    Ok(parts.join("/"))
}
