//! This module owns [`DatabaseFile`]: a file that is read here and there. Nothing is read that lies behind its end.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{Unread, damaged};

/// A database's file.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    file: File,
    len: u64,
}

impl DatabaseFile {
    pub(super) fn of(file: File) -> Result<Self, Unread> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }

    /// Bytes of it.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// `len` bytes from `offset` on. Whoever asks has a bound for `len`.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Unread> {
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.len) {
            return damaged("something of it lies behind its end");
        }
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The number at `offset`, its lowest byte first.
    pub(super) fn u32_le(&self, offset: u64) -> Result<u32, Unread> {
        let bytes = self.read(offset, 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four were read")))
    }
}

/// The number at `at`, its highest byte first.
pub(super) fn u32_be(bytes: &[u8], at: usize) -> Result<u32, Unread> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(four) => Ok(u32::from_be_bytes(*four)),
        None => damaged("a number lies behind the end"),
    }
}

/// The same of two bytes.
pub(super) fn u16_be(bytes: &[u8], at: usize) -> Result<u16, Unread> {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(two) => Ok(u16::from_be_bytes(*two)),
        None => damaged("a number lies behind the end"),
    }
}
