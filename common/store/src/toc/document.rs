//! The table of contents as JSON, exactly as containers/storage writes it (`pkg/chunked/internal/minimal`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The only version there is.
pub(crate) const VERSION: u32 = 1;
/// [`EntryDocument::chunk_type`] of a hole.
pub(crate) const CHUNK_TYPE_ZEROS: &str = "zeros";
/// [`EntryDocument::kind`] of what follows a regular file of several chunks.
pub(crate) const KIND_CHUNK: &str = "chunk";

/// The whole table, for writing. Reading goes entry by entry, see `parse.rs`.
#[derive(Debug, Serialize)]
pub(crate) struct TocDocument<'a> {
    pub(crate) version: u32,
    pub(crate) entries: &'a [EntryDocument<'a>],
}

/// One entry. A regular file of several chunks is one `reg` entry followed by `chunk` entries; then the `chunk…`
/// fields of all of them count, the first one's included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryDocument<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub(crate) link_name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) mode: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) size: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) uid: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) gid: i64,
    /// RFC 3339. One word in this format, unlike the others.
    #[serde(borrow, rename = "modtime", default, skip_serializing_if = "Option::is_none")]
    pub(crate) mod_time: Option<Cow<'a, str>>,
    /// Values in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xattrs: Option<BTreeMap<String, String>>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub(crate) digest: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) offset: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) end_offset: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) chunk_size: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) chunk_offset: i64,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub(crate) chunk_digest: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub(crate) chunk_type: Cow<'a, str>,
    /// Ours: BLAKE3 of the chunk's bytes in hex, see `chunk_digest`. Other readers pass over it.
    #[serde(
        borrow,
        rename = "io.gantry.blake3",
        default,
        skip_serializing_if = "str::is_empty"
    )]
    pub(crate) blake3: Cow<'a, str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}
