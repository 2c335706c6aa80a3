//! This module owns [`OpenFiles`]: the files of a layer that are written to now, so that a chunk costs no path lookup.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::MAX_OPEN_FILES;

/// Open files by entry, the most recently used last; and the entries written to since the last sync.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: Mutex<Vec<(u32, Arc<OpenFile>)>>,
    dirty: Mutex<HashSet<u32>>,
}

/// A file that several threads write to.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    /// Linux lets one write into a file at a time, and the others spin meanwhile. Whoever waits here leaves its processor
    /// to the threads that bring the next chunks.
    turn: Mutex<()>,
}

impl OpenFile {
    /// Writes `pieces` one after the other, the first at `offset`.
    pub(super) fn write_at<'a>(
        &self,
        pieces: impl Iterator<Item = &'a [u8]>,
        mut offset: u64,
    ) -> io::Result<()> {
        let _turn = lock(&self.turn);
        for piece in pieces {
            self.file.write_all_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

impl OpenFiles {
    /// The file of `entry`, opened by `open` if it is not open.
    pub(super) fn get(
        &self,
        entry: u32,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<Arc<OpenFile>> {
        if let Some(file) = find(&mut lock(&self.files), entry) {
            return Ok(file);
        }
        // Opened without the lock: others go on. If two open the same file, the second one wins.
        let file = Arc::new(OpenFile {
            file: open()?,
            turn: Mutex::default(),
        });
        let mut files = lock(&self.files);
        if let Some(file) = find(&mut files, entry) {
            return Ok(file);
        }
        if files.len() >= MAX_OPEN_FILES {
            files.remove(0);
        }
        files.push((entry, Arc::clone(&file)));
        Ok(file)
    }

    /// Remembers that `entry` was written to.
    pub(super) fn written(&self, entry: u32) {
        lock(&self.dirty).insert(entry);
    }

    /// The entries written to since this was last asked.
    pub(super) fn take_written(&self) -> HashSet<u32> {
        std::mem::take(&mut lock(&self.dirty))
    }
}

fn find(files: &mut Vec<(u32, Arc<OpenFile>)>, entry: u32) -> Option<Arc<OpenFile>> {
    let at = files.iter().rposition(|(open, _)| *open == entry)?;
    let found = files.remove(at);
    let file = Arc::clone(&found.1);
    files.push(found);
    Some(file)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
