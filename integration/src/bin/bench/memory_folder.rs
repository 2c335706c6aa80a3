//! A folder in memory, for work whose time must not depend on a disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gantry_integration::cache;

/// One folder for this machine: only one `bench` runs at a time, so what is there was left by a killed one.
const PATH: &str = "/dev/shm/gantry-bench";

/// The folder; it goes with this value.
#[derive(Debug)]
pub(crate) struct MemoryFolder(PathBuf);

impl MemoryFolder {
    pub(crate) fn create() -> Result<Self> {
        let path = PathBuf::from(PATH);
        cache::remove_tree(&path)?;
        fs::create_dir(&path).with_context(|| format!("cannot create {PATH}"))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MemoryFolder {
    fn drop(&mut self) {
        if let Err(error) = cache::remove_tree(&self.0) {
            eprintln!("bench: {error:#}");
        }
    }
}
