//! Images as sealer had them before 0.9: a document of its own says what an image is, where OCI has a config.
//!
//! | where the document comes from | what its layers are | how they arrive |
//! |---|---|---|
//! | save files (`archive/sealer/`) | folders of the archive | a new chunked layer of each |
//! | registries: the blob that the manifest calls its config | gzip, in the document's order, without directives that made none | as they are, beside their chunked forms |
//!
//! Digests in the document are no digests of what travels: sealer packs a layer anew where it was unpacked. What a registry
//! sends is verified by the digests in its manifest.

mod document;
mod image;
mod pulled;

pub(crate) use document::{ImageDocument, SaidPlatform};
pub(crate) use pulled::check_document;
pub use pulled::{image_from_document, is_document};
