//! This module owns how the store's own JSON files are read and written.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use gantry_system::files::write_atomically;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

/// Most bytes of one of the store's own documents.
const MAX_DOCUMENT_LEN: u64 = 64 << 20;

/// Reads a document; none when the file does not exist.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::io("open", path)(source)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT_LEN + 1)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > MAX_DOCUMENT_LEN {
        return Err(StoreError::TooLarge {
            what: path.display().to_string(),
            limit: MAX_DOCUMENT_LEN,
        });
    }
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| StoreError::malformed(path.display().to_string(), error.to_string()))
}

/// Writes a document: whole or not at all, and durable when this returns. Its folder is made if need be.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), StoreError> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("the store's documents are plain data");
    bytes.push(b'\n');
    let dir = path.parent().expect("every document lies in a folder");
    fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
    write_atomically(path, &bytes, 0o644).map_err(StoreError::io("write", path))
}
