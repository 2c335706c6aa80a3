//! Archives that ADD unpacks.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use gantry_model::{Digest, ExitCode};
use gantry_store::layer_import::{TarForm, tar_form};
use gantry_store::{LayerError, Store, layer_from_tar};

use crate::exit::{OrExit as _, failure_hint};

use super::context::{Found, FoundKind};

/// Whether archives are among the files.
///
/// # Errors
/// When one cannot be read, or is compressed in a way that is not read here.
pub(super) fn with_archives(found: &[Found]) -> anyhow::Result<bool> {
    let mut any = false;
    for one in found {
        any |= archive(one)?.is_some();
    }
    Ok(any)
}

/// Folders with what is in them in the place of archives. `unpacked` gets the layers that hold them meanwhile.
///
/// # Errors
/// When an archive is damaged, has what layers may not have, or the store cannot be written.
pub(super) fn unpack_archives(
    store: &Store,
    found: Vec<Found>,
    unpacked: &mut Vec<Digest>,
) -> anyhow::Result<Vec<Found>> {
    let mut all = Vec::new();
    for one in found {
        let Some(path) = archive(&one)? else {
            all.push(one);
            continue;
        };
        let mut make = || {
            let layer = layer_from_tar(store, File::open(path).map_err(LayerError::io("open", path))?)?;
            unpacked.push(layer.digest);
            store.unpack_layer(&layer)?;
            Ok(layer)
        };
        let layer = make()
            .map_err(|error: LayerError| (error.exit_code(), error))
            .or_else(|(code, error)| Err(error).or_exit(code))
            .with_context(|| format!("cannot unpack {}", path.display()))?;
        all.push(Found {
            kind: FoundKind::Folder(store.layer_dir(&layer.digest)),
            name: one.name,
        });
    }
    Ok(all)
}

/// Where it lies, if it is an archive.
fn archive(found: &Found) -> anyhow::Result<Option<&Path>> {
    let FoundKind::File(path) = &found.kind else {
        return Ok(None);
    };
    if path.is_symlink() || !path.is_file() {
        return Ok(None);
    }
    let form = File::open(path)
        .and_then(tar_form)
        .with_context(|| format!("cannot read {}", path.display()))?;
    match form {
        TarForm::Readable => Ok(Some(path)),
        TarForm::Unreadable(compression) if is_called_archive(&found.name) => Err(failure_hint(
            ExitCode::Input,
            format!(
                "{} is compressed with {compression}, which ADD does not unpack",
                found.name
            ),
            "pack it with gzip or zstd, or COPY it as it is",
        )),
        TarForm::None | TarForm::Unreadable(_) => Ok(None),
    }
}

/// Whether the name says that it is a tar archive.
fn is_called_archive(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains(".tar.")
        || [".txz", ".tbz", ".tbz2"]
            .iter()
            .any(|ending| name.ends_with(ending))
}
