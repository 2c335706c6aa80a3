//! Images as files: OCI archives out; OCI archives, OCI folders and docker archives in.

mod arrivals;
mod docker;
mod intake;
mod load;
mod save;

pub use load::{LoadEvent, LoadedImage};

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
mod tests;
