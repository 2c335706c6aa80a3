//! This module owns how bytes of an archive come into the store: decompressed, bounded, verified.

use std::io::{self, BufReader, Read, Write as _};

use gantry_model::Digest;

use super::entries::unreadable;
use crate::layer_import::decode::{Format, format};
use crate::manifest::MAX_MANIFEST_LEN;
use crate::{Store, StoreError};

const BUFFER_LEN: usize = 1 << 18;

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
    let taken = store.blobs().put(content, digest, size, what);
    taken.map_err(|error| match error {
        StoreError::Read { what, source } => unreadable(&what, source),
        error => error,
    })
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
    let mut buffer = vec![0; BUFFER_LEN];
    while writer.len() < size {
        let read = match content.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(what, error)),
        };
        let written = writer.write_all(&buffer[..read]);
        written.map_err(StoreError::io("write", writer.path()))?;
    }
    writer.finish().map(|(digest, _)| digest)
}

/// A document at the top of an archive.
pub(super) fn document(content: impl Read, what: &str) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    content
        .take(MAX_MANIFEST_LEN + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(what, error))?;
    if bytes.len() as u64 > MAX_MANIFEST_LEN {
        return Err(StoreError::TooLarge {
            what: what.to_owned(),
            limit: MAX_MANIFEST_LEN,
        });
    }
    Ok(bytes)
}

/// The archive's tar stream, whether it is plain, gzip or zstd.
pub(super) fn decompressed<'r>(stream: impl Read + 'r, what: &str) -> Result<Box<dyn Read + 'r>, StoreError> {
    let mut stream = BufReader::with_capacity(BUFFER_LEN, stream);
    Ok(
        match format(&mut stream).map_err(|error| unreadable(what, error))? {
            Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
            Format::Zstd => {
                Box::new(zstd::Decoder::with_buffer(stream).map_err(|error| unreadable(what, error))?)
            }
            Format::Tar => Box::new(stream),
            Format::Unreadable(name) => {
                let reason = format!(
                    "it is compressed with {name}, which is not read here; compress it with gzip or zstd"
                );
                return Err(StoreError::malformed(what, reason));
            }
        },
    )
}
