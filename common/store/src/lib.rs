//! The image store: blobs, chunks, layers, overlay mounts.

mod archive;
mod blobs;
mod check;
mod chunked_forms;
mod documents;
mod error;
mod image;
mod images;
mod lock;
pub mod manifest;
mod remove;
mod store;

pub use archive::LoadedImage;
pub use blobs::{BlobWriter, Blobs};
pub use check::{CheckReport, Damage};
pub use error::StoreError;
pub use image::Image;
pub use lock::StoreLock;
pub use manifest::{Descriptor, ImageConfig, Platform};
pub use remove::Removal;
pub use store::Store;
