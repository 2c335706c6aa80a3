//! Files that commands write where `-o` says.

use std::path::Path;

use anyhow::Context as _;
use gantry_model::ExitCode;
use gantry_system::files::write_atomically;

use crate::exit::{OrExit as _, failure};

/// Whether `path` is standard output, by the name that it has everywhere.
pub(super) fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The folder that a file at `path` lies in.
///
/// # Errors
/// When it is not there: said before any work is done for it.
pub(super) fn folder(path: &Path) -> anyhow::Result<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(folder);
    }
    let (path, folder) = (path.display(), folder.display());
    let message = format!("cannot write {path}: there is no folder {folder}");
    Err(failure(ExitCode::Input, message))
}

/// Makes the file at `path` hold `bytes`, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    folder(path)?;
    write_atomically(path, bytes, mode)
        .with_context(|| format!("cannot write {}", path.display()))
        .or_exit(ExitCode::Failed)
}
