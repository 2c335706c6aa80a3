//! What the databases of RPM say is installed: every package's header, out of whichever form the database has.
//!
//! ```text
//! rpmdb.sqlite ── sqlite: rows of the table Packages ─┐
//! Packages.db  ── ndb: slots, and blobs behind them ──┼── header: name, epoch, version, release, architecture
//! Packages     ── Berkeley DB: not read, and said so ─┘
//! ```

mod database_file;
mod header;
mod ndb;
mod sqlite;

use std::fs::File;
use std::io;

use gantry_store::{LayerError, Rootfs};

use self::database_file::DatabaseFile;
pub use self::header::RpmPackage;

/// Where databases lie: RPM's own place, and the one that newer systems have for it.
const FOLDERS: [&str; 2] = ["var/lib/rpm", "usr/lib/sysimage/rpm"];
/// What they are called there, by their form.
const NAMES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];
/// What SQLite keeps changes in that are not in the database yet (sqlite.org/wal.html).
const LOG: &str = "rpmdb.sqlite-wal";
/// Largest database that is read: some ten thousand packages have a tenth of it.
const MAX_DATABASE_LEN: u64 = 1 << 30;
/// Longest header of a package.
const MAX_HEADER_LEN: usize = 32 << 20;
/// Most packages of a database.
const MAX_PACKAGES: usize = 100_000;
/// How a Berkeley DB of RPM's begins, at [`BERKELEY_OFFSET`] (`DB_HASHMAGIC` of `db.h`).
const BERKELEY_MAGIC: u32 = 0x0006_1561;
const BERKELEY_OFFSET: u64 = 12;

/// Why a database is not read: one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unread(String);

impl Unread {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self(format!("it cannot be read: {error}"))
    }
}

/// What the file at `path` of an image is to RPM.
pub(super) fn kind(path: &str) -> Option<Kind> {
    let (folder, name) = path.rsplit_once('/')?;
    if !FOLDERS.contains(&folder) {
        return None;
    }
    match name {
        LOG => Some(Kind::Log),
        name => NAMES.contains(&name).then_some(Kind::Database),
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A database.
    Database,
    /// Changes that are not in the database yet.
    Log,
}

/// The packages that the database at `path`, with `size` bytes, says are installed; the inner error is why it is not read.
///
/// # Errors
/// When the image is damaged there, or this machine has no room for a copy.
pub(super) fn packages(
    rootfs: &Rootfs,
    path: &str,
    size: u64,
) -> Result<Result<Vec<RpmPackage>, Unread>, LayerError> {
    if size > MAX_DATABASE_LEN {
        let limit = MAX_DATABASE_LEN >> 30;
        return Ok(Err(Unread::new(format!("it is larger than {limit} GiB"))));
    }
    // Databases are read here and there, layers from front to back.
    let mut copy = tempfile::tempfile().map_err(LayerError::io("copy", path))?;
    rootfs.copy_file(path, &mut copy)?;
    Ok(read_database(copy))
}

/// The packages that a database says are installed, in its order.
///
/// # Errors
/// When it is damaged, or has a form that is not read.
pub fn read_database(file: File) -> Result<Vec<RpmPackage>, Unread> {
    let file = DatabaseFile::of(file)?;
    let mut packages = Vec::new();
    let mut take = |header: &[u8]| {
        if packages.len() >= MAX_PACKAGES {
            return Err(Unread::new(format!("it has more than {MAX_PACKAGES} packages")));
        }
        packages.extend(RpmPackage::of_header(header)?);
        Ok(())
    };
    if sqlite::is_one(&file)? {
        sqlite::each_header(&file, &mut take)?;
    } else if ndb::is_one(&file)? {
        ndb::each_header(&file, &mut take)?;
    } else if file.len() >= BERKELEY_OFFSET + 4 && file.u32_le(BERKELEY_OFFSET)? == BERKELEY_MAGIC {
        return Err(Unread::new("it is a Berkeley DB, whose form is not read"));
    } else {
        return Err(Unread::new("it is no database of RPM"));
    }
    Ok(packages)
}

fn damaged<T>(what: &str) -> Result<T, Unread> {
    Err(Unread::new(format!("it is damaged: {what}")))
}

#[cfg(test)]
mod tests;
