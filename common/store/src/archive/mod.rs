//! Images as files: OCI archives (whole or in parts), OCI folders and docker archives, out and in; sealer's save files, in.

mod arrivals;
mod docker;
mod entries;
mod folder;
mod intake;
mod load;
mod parts;
mod save;
mod save_docker;
mod save_folder;
mod sealer;
mod tar_stream;

pub use load::{LoadEvent, LoadedImage};
pub use parts::{PartsIndex, PartsState, SavedParts};
pub use save::SaveEvent;
pub use sealer::YamlReader;

use gantry_model::Digest;

/// The file that makes a folder an OCI layout.
const LAYOUT_FILE: &str = "oci-layout";
/// What it says (OCI image-spec, "oci-layout file").
const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Where a blob lies in an OCI layout.
fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod tests_hostile;
