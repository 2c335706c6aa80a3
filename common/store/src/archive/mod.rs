//! Images as files: OCI archives (whole or in parts), OCI folders, docker archives and folders, out and in; sealer's save files, in.

mod arrivals;
mod container_images;
mod docker;
mod entries;
mod folder;
mod intake;
mod load;
mod parts;
mod save;
mod save_docker;
mod save_docker_dir;
mod save_folder;
mod sealer;
mod tar_stream;

pub use container_images::{ArchivedImage, ArchivedImages};
pub use load::{LoadEvent, LoadedImage};
pub use parts::{PartsIndex, PartsState, SavedParts};
pub use save::SaveEvent;
pub use sealer::YamlReader;

use gantry_model::Digest;

use crate::Descriptor;

/// The file that makes a folder an OCI layout.
const LAYOUT_FILE: &str = "oci-layout";
/// What it says (OCI image-spec, "oci-layout file").
const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file that makes a folder one of the directory transport (containers/image).
const DIRECTORY_VERSION_FILE: &str = "version";
/// How it begins; the minor version and a line feed follow.
const DIRECTORY_VERSION: &str = "Directory Transport Version: 1.";
/// Its manifest; those that this leads to are called by their digest before the same ending.
const DIRECTORY_MANIFEST: &str = "manifest.json";

/// Annotation of an entry of the index: what it is to cosign (`cosign save`, `cosign verify --local-image`).
const ANNOTATION_KIND: &str = "kind";
/// Its value for an image that was signed.
const KIND_IMAGE: &str = "dev.cosignproject.cosign/image";
/// Its value for an index that was signed.
const KIND_INDEX: &str = "dev.cosignproject.cosign/imageIndex";
/// Its value for signatures.
const KIND_SIGNATURES: &str = "dev.cosignproject.cosign/sigs";
/// Its value for statements about an image.
const KIND_ATTESTATIONS: &str = "dev.cosignproject.cosign/atts";
/// Annotation of signatures in the index: the name of the image that they were written with.
const ANNOTATION_SIGNED: &str = "io.gantry.signed";

/// Whether an entry of the index is signatures, or statements, and not an image.
fn is_signatures(entry: &Descriptor) -> bool {
    let kind = entry.annotations.get(ANNOTATION_KIND);
    kind.is_some_and(|kind| [KIND_SIGNATURES, KIND_ATTESTATIONS].contains(&kind.as_str()))
}

/// Where a blob lies in an OCI layout.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_docker_dir;
#[cfg(test)]
mod tests_hostile;
#[cfg(test)]
mod tests_signatures;
