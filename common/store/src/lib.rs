//! The image store: blobs, chunks, layers, overlay mounts.

mod admit;
mod archive;
pub mod attestations;
mod blob_writer;
mod blobs;
mod build_cache;
mod check;
mod check_layer;
mod chunked_forms;
mod contents;
mod documents;
pub mod early_sealer;
mod error;
pub mod extension;
mod fetched_blobs;
mod guard;
mod image;
mod images;
mod layer_error;
pub mod layer_import;
pub mod layer_writer;
mod layers;
pub mod limits;
mod lock;
pub mod manifest;
mod meant;
mod mounted;
mod new_image;
mod origins;
mod partial_blob;
mod platforms;
mod raw_frame;
mod reachable;
pub mod receive;
mod references;
mod remove;
mod rootfs;
pub mod signatures;
pub mod source;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests_round_trip;
pub mod toc;
mod unpack;
mod verified;
mod verify_layer;

pub use archive::{
    ArchivedImage, ArchivedImages, LoadEvent, LoadedImage, PartsIndex, PartsState, SaveEvent, SavedParts,
    YamlReader,
};
pub use blob_writer::BlobWriter;
pub use blobs::Blobs;
pub use build_cache::CachedStep;
pub use check::{CheckReport, Damage};
pub use check_layer::LayerDamage;
pub use contents::ImageContents;
pub use error::StoreError;
pub use extension::{Application, ContainerImage, Extension, LaunchItem, launch_lines};
pub use guard::Guard;
pub use image::Image;
pub use lock::StoreLock;
pub use manifest::{Descriptor, ImageConfig, Platform};
pub use meant::MeantImage;
pub use mounted::MountedImage;
pub use new_image::NewImage;
pub use partial_blob::PartialBlob;
pub use remove::{Postponed, Removal};
pub use rootfs::Rootfs;
pub use signatures::SignatureContents;
pub use store::Store;

pub use layer_error::LayerError;
pub use layer_import::layer_from_tar;
pub use layer_writer::{
    LayerOptions, LayerWriter, Metadata, Owners, SourceDigest, TreeLayer, layer_from_tree,
};
pub use receive::{Counters, LayerReceiver, ReceiveError, Scratch};
pub use source::ChunkSource;
pub use toc::{Chunk, ChunkDigest, EntryKind, Mtime, Toc, TocEntry, TocError};
