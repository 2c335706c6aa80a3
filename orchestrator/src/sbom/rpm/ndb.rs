//! Databases in RPM's own form, `Packages.db` (rpm's `lib/backend/ndb/rpmpkg.c`): pages of slots, each of which says where the blob
//! of a package lies. All numbers have their lowest byte first.

use super::database_file::DatabaseFile;
use super::{MAX_HEADER_LEN, MAX_PACKAGES, Unread, damaged};

/// `RpmP`.
const MAGIC: u32 = u32::from_le_bytes(*b"RpmP");
/// The one version there is.
const VERSION: u32 = 0;
/// Magic number, version, generation, number of pages of slots, and what else stands in the place of two slots.
const HEADER_LEN: u64 = 32;
const PAGE_LEN: u64 = 4096;
/// Magic number, package, and the first and the number of its blocks.
const SLOT_LEN: usize = 16;
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOCK_LEN: u64 = 16;
/// Magic number, package, generation, length of what follows.
const BLOB_HEAD_LEN: u64 = 16;
const BLOB_MAGIC: u32 = u32::from_le_bytes(*b"BlbS");
/// Checksum, length, magic number.
const BLOB_TAIL_LEN: u64 = 12;

/// Whether it is such a database.
pub(super) fn is_one(file: &DatabaseFile) -> Result<bool, Unread> {
    Ok(file.len() >= HEADER_LEN && file.u32_le(0)? == MAGIC)
}

/// Gives every package's header to `take`.
pub(super) fn each_header(
    file: &DatabaseFile,
    take: &mut impl FnMut(&[u8]) -> Result<(), Unread>,
) -> Result<(), Unread> {
    if file.u32_le(4)? != VERSION {
        return Err(Unread::new("its version is not known"));
    }
    let pages = u64::from(file.u32_le(12)?);
    if pages * PAGE_LEN > file.len() || pages * PAGE_LEN / SLOT_LEN as u64 > 2 * MAX_PACKAGES as u64 {
        return damaged("it has more pages of slots than there is room for");
    }
    for page in 0..pages {
        let bytes = file.read(page * PAGE_LEN, PAGE_LEN as usize)?;
        let first = if page == 0 { HEADER_LEN as usize } else { 0 };
        for slot in bytes[first..].chunks_exact(SLOT_LEN) {
            let number = |at: usize| u32::from_le_bytes(slot[at..at + 4].try_into().expect("four bytes"));
            if !slot.starts_with(SLOT_MAGIC) {
                return damaged("a slot is none");
            }
            let (package, block, blocks) = (number(4), u64::from(number(8)), u64::from(number(12)));
            if block != 0 {
                take(&blob(file, package, block * BLOCK_LEN, blocks * BLOCK_LEN)?)?;
            }
        }
    }
    Ok(())
}

/// What lies at `offset`, where `room` bytes are for it.
fn blob(file: &DatabaseFile, package: u32, offset: u64, room: u64) -> Result<Vec<u8>, Unread> {
    if file.u32_le(offset)? != BLOB_MAGIC || file.u32_le(offset + 4)? != package {
        return damaged("a slot leads to no blob of its package");
    }
    let len = file.u32_le(offset + 12)?;
    if BLOB_HEAD_LEN + u64::from(len) + BLOB_TAIL_LEN > room || len as usize > MAX_HEADER_LEN {
        return damaged("a blob is longer than its place");
    }
    file.read(offset + BLOB_HEAD_LEN, len as usize)
}
