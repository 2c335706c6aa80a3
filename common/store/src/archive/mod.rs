//! Images as files: OCI archives out, OCI archives, OCI folders and docker archives in.

mod load;
mod save;

pub use load::LoadedImage;
