//! This module owns how key files are read and written.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use gantry_model::ExitCode;
use gantry_signing::{KeyError, MAX_KEY_FILE_LEN};

use crate::exit::{OrExit as _, failure};

/// Reads the key in the file at `path`.
///
/// # Errors
/// When it cannot be read, or is no key of this half.
pub(crate) fn read<K: FromStr<Err = KeyError>>(path: &Path) -> anyhow::Result<K> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE_LEN).read_to_string(&mut text))
        .with_context(|| format!("cannot read key {shown}"))
        .or_exit(ExitCode::Input)?;
    text.parse()
        .map_err(|error| failure(ExitCode::Input, format!("{shown} is not a key for this: {error}")))
}

/// Writes a new file; one that is there stays.
///
/// # Errors
/// When there is one, or it cannot be written.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half a key is none, and would stand in the way of the next one.
            drop(std::fs::remove_file(path));
        }
        written
    };
    write()
        .with_context(|| format!("cannot write {}", path.display()))
        .or_exit(ExitCode::Failed)
}
