//! What is in an image, as an SBOM in SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>).
//!
//! ```text
//! rootfs ── contents: every file read once ──▶ digests, build information of Go programs ─┐
//!    └──── packages: registry/, charts, package databases, archives of packages ──────────┴─ document: SPDX
//! ```

mod contents;
mod document;
mod go_build_info;
mod packages;
mod rpm;
mod spdx;

use gantry_store::{Image, LayerError, Rootfs};

pub(crate) use packages::container_image_purl;
pub use rpm::{RpmPackage, Unread, read_database as read_rpm_database};
pub use spdx::Document;

/// The SBOM of `image`, whose merged tree is `rootfs`. `created` is the time it says it was made at, in seconds since the epoch.
/// The same image and time give the same document.
///
/// # Errors
/// When a file of the image is damaged.
pub fn document(image: &Image, rootfs: &Rootfs, created: i64) -> Result<Document, LayerError> {
    let contents = contents::read(rootfs)?;
    let packages = packages::find(rootfs)?;
    Ok(document::document(image, &contents, packages, created))
}
