//! This module owns [`layer_from_tar`]: how a layer made by others becomes a chunked one.
//!
//! ```text
//! bytes ─▶ decode (its own thread) ─▶ members of the tar stream ─┬─▶ chunked blob: every byte, unchanged
//!                                                                └─▶ merged tree ─▶ table of contents
//! ```
//!
//! The tar stream is kept byte for byte, so its digest is still the `diff_id` in the image's config. The table of
//! contents says what the stream means: what an extractor that keeps inside the layer would leave on disk.

pub(crate) mod decode;
mod member;
mod merged;
pub(crate) mod pax;
mod recognize;
#[cfg(test)]
mod tests;

use std::io::Read;

use gantry_model::LayerDescriptor;

pub use self::recognize::{TarForm, tar_form};

use self::member::{Kind, Member, Members};
use self::merged::Merged;
use crate::layer_writer::chunked_blob::{ChunkedBlob, Content};
use crate::layer_writer::refused;
use crate::limits::{MAX_ENTRIES, MAX_LAYER_CONTENT};
use crate::{LayerError, Store};

/// Makes a chunked layer of a tar stream: plain, gzip (also of several members) or zstd.
///
/// The tar stream is kept byte for byte, so the layer's `diff_id` stays what the image's config says.
///
/// # Errors
/// When the stream is damaged, or has something layers may not have: a device node, a FIFO, a path that leads outside.
pub fn layer_from_tar(store: &Store, tar: impl Read + Send) -> Result<LayerDescriptor, LayerError> {
    decode::decoded(tar, |tar| import(store, tar))
}

/// The same for a stream that is not compressed.
pub(crate) fn layer_from_plain_tar(store: &Store, tar: &mut dyn Read) -> Result<LayerDescriptor, LayerError> {
    import(store, tar)
}

fn import(store: &Store, tar: &mut dyn Read) -> Result<LayerDescriptor, LayerError> {
    let mut blob = ChunkedBlob::new(store)?;
    let mut members = Members::new(tar);
    let mut merged = Merged::default();
    let (mut count, mut content_len) = (0_usize, 0_u64);
    while let Some(member) = members.next(&mut blob)? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(refused(
                &member.name,
                format!("the layer has more than {MAX_ENTRIES} entries"),
            ));
        }
        content_len += member.size;
        if content_len > MAX_LAYER_CONTENT {
            return Err(refused(
                &member.name,
                format!("the layer has more than {MAX_LAYER_CONTENT} bytes of content"),
            ));
        }
        let content = if member.kind == Kind::File {
            content(&mut blob, &mut members, &member)?
        } else {
            Content::default()
        };
        merged.add(member, content)?;
    }
    blob.finish(merged.into_records())
}

fn content(
    blob: &mut ChunkedBlob,
    members: &mut Members<'_>,
    member: &Member,
) -> Result<Content, LayerError> {
    let content = blob
        .content(member.size, members.reader())?
        .map_err(|error| member::damaged(&member.name, &error))?;
    members.padding(blob, member.size)?;
    Ok(content)
}
