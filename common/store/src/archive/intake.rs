//! This module owns how bytes of an archive come into the store: decompressed, bounded, verified.

use std::fs::File;
use std::io::{self, BufReader, Read};

use gantry_model::Digest;

use crate::manifest::MAX_MANIFEST_LEN;
use crate::{Store, StoreError};

/// Brings one blob in, unless a whole copy of it is here. A damaged copy is replaced.
pub(super) fn take_blob(
    store: &Store,
    content: impl Read,
    digest: &Digest,
    size: u64,
    what: &str,
) -> Result<(), StoreError> {
    if store.blobs().size(digest)? == Some(size) && store.blobs().verify(digest, what).is_ok() {
        return Ok(());
    }
    store.check_room(size, what)?;
    store.blobs().put(content, digest, size, what)
}

/// Brings a file in whose digest nobody announced.
pub(super) fn take_file(
    store: &Store,
    mut content: impl Read,
    size: u64,
    what: &str,
) -> Result<Digest, StoreError> {
    store.check_room(size, what)?;
    let mut writer = store.blobs().writer()?;
    let copied = io::copy(&mut content, &mut writer).map_err(|source| StoreError::Read {
        what: what.to_owned(),
        source,
    })?;
    if copied != size {
        let found = format!("it ends after {copied} bytes, the archive is cut short");
        return Err(StoreError::WrongSize {
            what: what.to_owned(),
            expected: size,
            found,
        });
    }
    writer.finish().map(|(digest, _)| digest)
}

pub(super) fn document(content: impl Read, what: &str) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    content
        .take(MAX_MANIFEST_LEN + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| StoreError::Read {
            what: what.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > MAX_MANIFEST_LEN {
        return Err(StoreError::TooLarge {
            what: what.to_owned(),
            limit: MAX_MANIFEST_LEN,
        });
    }
    Ok(bytes)
}

/// The archive's tar stream, whether it is plain, gzip or zstd.
pub(super) fn decompressed(file: File, what: &str) -> Result<Box<dyn Read>, StoreError> {
    use std::io::{Seek as _, SeekFrom};
    let unreadable = |source| StoreError::Read {
        what: what.to_owned(),
        source,
    };
    let mut magic = [0; 4];
    let mut start = (&file).take(4);
    let mut filled = 0;
    while filled < magic.len() {
        match start.read(&mut magic[filled..]).map_err(unreadable)? {
            0 => break,
            read => filled += read,
        }
    }
    let mut file = file;
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let file = BufReader::with_capacity(1 << 18, file);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(file).map_err(unreadable)?),
        _ => Box::new(file),
    })
}
