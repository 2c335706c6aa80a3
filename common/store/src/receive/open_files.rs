//! This module owns [`OpenFiles`]: the files of a layer that are written to now, so that a chunk costs no path lookup.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::MAX_OPEN_FILES;

/// Open files by entry, the most recently used last; and the entries written to since the last sync.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: Mutex<Vec<(u32, Arc<File>)>>,
    dirty: Mutex<HashSet<u32>>,
}

impl OpenFiles {
    /// The file of `entry`, opened by `open` if it is not open.
    pub(super) fn get(&self, entry: u32, open: impl FnOnce() -> io::Result<File>) -> io::Result<Arc<File>> {
        if let Some(file) = find(&mut lock(&self.files), entry) {
            return Ok(file);
        }
        // Opened without the lock: others go on. If two open the same file, the second one wins.
        let file = Arc::new(open()?);
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

fn find(files: &mut Vec<(u32, Arc<File>)>, entry: u32) -> Option<Arc<File>> {
    let at = files.iter().rposition(|(open, _)| *open == entry)?;
    let found = files.remove(at);
    let file = Arc::clone(&found.1);
    files.push(found);
    Some(file)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
