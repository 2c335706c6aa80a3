//! This module owns [`LayerTree`]: the folder of one layer in a save file of sealer, as the tar stream of a layer.
//!
//! Entries go on as they are, without the folder's name before theirs. What overlayfs has for removed files and opaque
//! folders becomes what OCI layers have for them.

use std::io::{self, Read};

use crate::StoreError;
use crate::archive::entries::{Entries, Entry, EntryKind};
use crate::layer_import::pax::Pax;
use crate::limits::MAX_ENTRIES;

const BLOCK_LEN: usize = 512;
/// Where a header has its entry's kind, and the first byte after its name (POSIX.1, ustar).
const KIND: usize = 156;
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const LINK: std::ops::Range<usize> = 157..257;
const PREFIX: std::ops::Range<usize> = 345..500;
/// Marks a folder whose lower layers do not show.
const OPAQUE: &str = "SCHILY.xattr.trusted.overlay.opaque";

/// The tar stream of the layer whose folder begins with the next entry.
pub(super) struct LayerTree<'e, 'a, R> {
    entries: &'e mut Entries<'a, R>,
    folder: String,
    ready: Vec<u8>,
    at: usize,
    content: u64,
    ended: bool,
}

impl<'e, 'a, R: Read> LayerTree<'e, 'a, R> {
    /// The layer of the folder that the entry `first` lies in.
    pub(super) fn new(entries: &'e mut Entries<'a, R>, folder: &str, first: Entry) -> Self {
        // Each has up to three headers; the importer counts them by itself.
        entries.allow(3 * MAX_ENTRIES);
        entries.put_back(first);
        Self {
            entries,
            folder: format!("{folder}/"),
            ready: Vec::new(),
            at: 0,
            content: 0,
            ended: false,
        }
    }

    /// Makes the next headers ready.
    fn advance(&mut self) -> Result<(), StoreError> {
        (self.at, self.ready) = (0, Vec::new());
        match self.entries.next()? {
            Some(entry) if entry.name.starts_with(&self.folder) => self.enter(&entry),
            other => {
                if let Some(entry) = other {
                    self.entries.put_back(entry);
                }
                self.ended = true;
                self.ready = vec![0; 2 * BLOCK_LEN];
            }
        }
        Ok(())
    }

    fn enter(&mut self, entry: &Entry) {
        let path = entry.name[self.folder.len()..].to_owned();
        let pax = Pax::parse(&entry.pax).unwrap_or_default();
        let mut header = entry.header;
        let (parent, base) = path
            .rsplit_once('/')
            .map_or(("", path.as_str()), |(parent, base)| (parent, base));
        let beside = |name: &str| match parent {
            "" => name.to_owned(),
            _ => format!("{parent}/{name}"),
        };
        let device = tar::Header::from_byte_slice(&header);
        let removed = header[KIND] == b'3'
            && matches!(
                (device.device_major(), device.device_minor()),
                (Ok(Some(0)), Ok(Some(0)))
            );
        if removed {
            self.push_file(&beside(&format!(".wh.{base}")), header);
            return;
        }
        let mut records = Vec::new();
        record(&mut records, "path", path.as_bytes());
        if let EntryKind::Link { target, symbolic } = &entry.kind {
            let target = match target.strip_prefix(&self.folder) {
                Some(inside) if !symbolic => inside,
                _ => target,
            };
            record(&mut records, "linkpath", target.as_bytes());
        }
        let opaque = pax.get(OPAQUE) == Some(b"y");
        for (key, value) in pax.with_prefix("") {
            if !matches!(key, "path" | "linkpath" | "size") && key != OPAQUE {
                record(&mut records, key, value);
            }
        }
        if entry.size > 0 {
            record(&mut records, "size", entry.size.to_string().as_bytes());
        }
        self.push_header(&records, &mut header);
        if opaque && header[KIND] == b'5' {
            self.push_file(&format!("{path}/.wh..wh..opq"), header);
        }
        self.content = entry.size;
    }

    /// An empty file.
    fn push_file(&mut self, path: &str, mut header: [u8; BLOCK_LEN]) {
        let mut records = Vec::new();
        record(&mut records, "path", path.as_bytes());
        header[KIND] = b'0';
        self.push_header(&records, &mut header);
    }

    /// A PAX header, and the header it belongs to: names and sizes are in the first alone.
    fn push_header(&mut self, records: &[u8], header: &mut [u8; BLOCK_LEN]) {
        let mut pax = tar::Header::new_ustar();
        pax.set_entry_type(tar::EntryType::XHeader);
        pax.set_size(records.len() as u64);
        pax.set_cksum();
        self.ready.extend(pax.as_bytes());
        self.ready.extend(records);
        self.ready.resize(self.ready.len().next_multiple_of(BLOCK_LEN), 0);
        for field in [NAME, LINK, PREFIX, SIZE] {
            header[field].fill(0);
        }
        let mut written = tar::Header::from_byte_slice(header).clone();
        written.set_cksum();
        self.ready.extend(written.as_bytes());
    }
}

impl<R: Read> Read for LayerTree<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.at < self.ready.len() {
                let len = buffer.len().min(self.ready.len() - self.at);
                buffer[..len].copy_from_slice(&self.ready[self.at..][..len]);
                self.at += len;
                return Ok(len);
            }
            if self.content > 0 {
                let len = buffer
                    .len()
                    .min(usize::try_from(self.content).unwrap_or(usize::MAX));
                let read = self.entries.content().read(&mut buffer[..len])?;
                self.content -= read as u64;
                if self.content == 0 {
                    // The padding is passed over with the entry, and made anew.
                    self.at = 0;
                    self.ready = vec![0; self.entries.padding()];
                }
                return Ok(read);
            }
            if self.ended || buffer.is_empty() {
                return Ok(0);
            }
            self.advance()
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
}

/// `LEN KEY=VALUE\n`, where the length counts itself (POSIX.1-2001).
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend(format!("{len} {key}=").as_bytes());
    records.extend(value);
    records.push(b'\n');
}
