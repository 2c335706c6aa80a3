//! Things that take long to make and do not change, kept outside the checkout, each made once.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where they are: `$GANTRY_CACHE`, or `/var/cache/gantry`.
#[must_use]
pub fn folder() -> PathBuf {
    env::var_os("GANTRY_CACHE").map_or_else(|| PathBuf::from("/var/cache/gantry"), PathBuf::from)
}

/// Opens `path` as a lock file, with its folder.
///
/// # Errors
/// When it cannot be created; the message says where.
pub fn lock_file(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open the lock {}", path.display()))
}

/// The cached thing called `name`, made by `build` if it is not there yet.
///
/// `build` gets a path that does not exist; what it leaves there appears under its name by one rename, so a
/// crash leaves nothing half made. Several processes may ask for the same thing: one makes it, the others wait.
///
/// # Errors
/// When the cache cannot be written, or what `build` failed with.
pub fn made_once(name: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let target = folder().join(name);
    if target.exists() {
        return Ok(target);
    }
    let lock = lock_file(&with_suffix(&target, ".lock"))?;
    lock.lock()
        .with_context(|| format!("cannot lock the cache for {name}"))?;
    if target.exists() {
        return Ok(target);
    }
    let unfinished = with_suffix(&target, ".unfinished");
    remove_tree(&unfinished)?;
    build(&unfinished).with_context(|| format!("cannot make {}", target.display()))?;
    fs::rename(&unfinished, &target).with_context(|| format!("cannot put {} in place", target.display()))?;
    Ok(target)
}

/// Removes a file or a folder with everything below; what is not there is no error.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_tree(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    result.with_context(|| format!("cannot remove {}", path.display()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
