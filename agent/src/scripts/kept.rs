//! How much of what a step wrote is kept: its beginning, where scripts say what they are about to do, and its end,
//! where they say what went wrong. The middle of more than that is given back to the disk as a hole: the file keeps
//! its length, so whoever appends to it or reads it goes on where it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

/// The files of a step's folder that a script writes to.
pub(super) const OUTPUTS: [&str; 2] = ["stdout", "stderr"];
/// Bytes kept of the beginning of each output.
pub(super) const KEPT_HEAD: u64 = 1 << 20;
/// Bytes kept of the end of each output, at least; twice as much before anything is given back.
pub(super) const KEPT_TAIL: u64 = 8 << 20;
/// How often a running script's outputs are looked at.
pub(super) const TRIM_EVERY: Duration = Duration::from_secs(1);
/// Holes begin and end at whole blocks of the file system.
const BLOCK: u64 = 4096;

/// Gives back the middle of the outputs in a step's folder that are too long. One that cannot be is left as it is.
pub(super) fn trim(folder: &Path) {
    for name in OUTPUTS {
        let path = folder.join(name);
        match trim_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!("the output in {} cannot be shortened: {error}", path.display());
            }
            _ => {}
        }
    }
}

fn trim_file(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let about = file.metadata()?;
    // st_blocks counts 512 bytes whatever the file system's blocks are (stat(2)).
    if about.blocks() * 512 <= KEPT_HEAD + 2 * KEPT_TAIL {
        return Ok(());
    }
    let end = about.len().saturating_sub(KEPT_TAIL) / BLOCK * BLOCK;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(
        &file,
        flags,
        KEPT_HEAD,
        end.saturating_sub(KEPT_HEAD),
    )?)
}

/// Where the next byte that was kept is, from `at` on; none at the end of the file.
pub(super) fn next_kept(file: &File, at: u64) -> io::Result<Option<u64>> {
    if at < KEPT_HEAD {
        return Ok(Some(at));
    }
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(next) => Ok(Some(next)),
        Err(Errno::NXIO) => Ok(None),
        // A file system without holes.
        Err(Errno::INVAL) => Ok(Some(at)),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes from `at` on are certainly in front of a hole; none behind the beginning that is kept.
pub(super) fn before_gap(at: u64) -> Option<usize> {
    usize::try_from(KEPT_HEAD.checked_sub(at)?)
        .ok()
        .filter(|len| *len > 0)
}

/// What stands in the output in the place of `len` bytes that were given back.
pub(super) fn gap(len: u64) -> Vec<u8> {
    format!("[gantry-agent kept the beginning and the end of this output; {len} bytes between them are gone]")
        .into_bytes()
}
