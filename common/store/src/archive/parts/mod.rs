//! An archive in numbered parts, for media that are too small for all of it.
//!
//! Parts put together are the OCI archive, byte for byte. The index beside them says what lies where, so that each part
//! is taken in by itself, in any order:
//!
//! ```text
//! kubernetes.tar.part-0001   bytes of the archive
//! kubernetes.tar.part-0002   …
//! kubernetes.tar.parts.json  the index: sizes and digests of parts, places of blobs
//! ```

mod index;
mod load;
mod save;
#[cfg(test)]
mod tests;

pub use index::PartsIndex;
pub(super) use index::{Extent, overlap};
pub use load::PartsState;
pub use save::SavedParts;
pub(super) use save::create_new;
