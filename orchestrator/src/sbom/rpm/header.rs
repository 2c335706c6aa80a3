//! This module owns [`RpmPackage`]: what the header of a package says (rpm's manual, "RPM V4 Package format", "Header").
//! In databases it stands without the magic number that it has in files.

use super::database_file::u32_be;
use super::{Unread, damaged};

/// An index entry: tag, type, offset of its data, count; four bytes each.
const ENTRY_LEN: usize = 16;
/// Before the entries: how many there are, and how many bytes of data follow them.
const INTRO_LEN: usize = 8;
/// Most entries of a header, as RPM has it.
const MAX_ENTRIES: usize = 0xffff;

const TAG_NAME: u32 = 1000;
const TAG_VERSION: u32 = 1001;
const TAG_RELEASE: u32 = 1002;
const TAG_EPOCH: u32 = 1003;
const TAG_ARCH: u32 = 1022;

const TYPE_INT32: u32 = 4;
const TYPE_STRING: u32 = 6;

/// What RPM keeps keys of vendors as: no package, and nothing that was installed.
const KEY: &str = "gpg-pubkey";

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpmPackage {
    /// Its name.
    pub name: String,
    /// Its epoch, where it has one.
    pub epoch: Option<u32>,
    /// Its version and release, `VERSION-RELEASE`.
    pub version: String,
    /// Its architecture.
    pub arch: Option<String>,
}

impl RpmPackage {
    /// What a header says; none when it is of a key.
    ///
    /// # Errors
    /// When it is damaged, or says no name or version.
    pub(super) fn of_header(header: &[u8]) -> Result<Option<Self>, Unread> {
        let (count, len) = (u32_be(header, 0)? as usize, u32_be(header, 4)? as usize);
        if count > MAX_ENTRIES {
            return damaged("a header has too many entries");
        }
        let start = INTRO_LEN + count * ENTRY_LEN;
        let Some(data) = header.get(start..).and_then(|rest| rest.get(..len)) else {
            return damaged("a header ends early");
        };
        let entry = |tag: u32, kind: u32| {
            let entries = header[INTRO_LEN..start].chunks_exact(ENTRY_LEN);
            let mut fitting = entries.filter_map(|entry| {
                let fits = u32_be(entry, 0) == Ok(tag) && u32_be(entry, 4) == Ok(kind);
                fits.then(|| u32_be(entry, 8).ok())?
            });
            fitting.next().map(|offset| offset as usize)
        };
        let text = |tag: u32| -> Result<Option<String>, Unread> {
            let Some(offset) = entry(tag, TYPE_STRING) else {
                return Ok(None);
            };
            let bytes = data.get(offset..).unwrap_or_default();
            let Some(end) = bytes.iter().position(|byte| *byte == 0) else {
                return damaged("a text of a header has no end");
            };
            Ok(Some(String::from_utf8_lossy(&bytes[..end]).into_owned()))
        };
        let (Some(name), Some(version), Some(release)) =
            (text(TAG_NAME)?, text(TAG_VERSION)?, text(TAG_RELEASE)?)
        else {
            return damaged("a header says no name, version or release");
        };
        let epoch = match entry(TAG_EPOCH, TYPE_INT32) {
            Some(offset) => Some(u32_be(data, offset)?),
            None => None,
        };
        let package = Self {
            version: format!("{version}-{release}"),
            epoch,
            arch: text(TAG_ARCH)?,
            name,
        };
        Ok((package.name != KEY).then_some(package))
    }
}
