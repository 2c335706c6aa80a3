//! How `gantry load` takes in an archive part by part.

use std::fs::File;
use std::path::{Path, PathBuf};

use gantry_model::{ExitCode, ImageReference};
use gantry_store::{LoadedImage, PartsIndex, PartsState, Store, StoreError};

use crate::exit::failure_hint;
use crate::report::archive_progress::ArchiveProgress;

/// Most names of missing parts that are listed.
const LISTED: usize = 6;

/// The parts of one archive that were named.
pub(super) struct Parts {
    index: PartsIndex,
    /// Where each lies, and its number.
    files: Vec<(PathBuf, u32)>,
}

/// Whether a file of this name is a part of an archive, or the index of one.
pub(super) fn is_of_parts(path: &Path) -> bool {
    let name = file_name(path);
    PartsIndex::archive_of_part(name).is_some() || PartsIndex::archive_of_index(name).is_some()
}

/// Which parts of which archives the `files` are. An index stands for all parts beside it.
///
/// # Errors
/// When an index is damaged, or there is none.
pub(super) fn sort(store: &Store, files: &[&PathBuf]) -> anyhow::Result<Vec<Parts>> {
    let mut archives: Vec<Parts> = Vec::new();
    let mut add = |index: PartsIndex, file: Option<(PathBuf, u32)>| {
        let known = archives.iter_mut().find(|archive| archive.index.is_like(&index));
        match known {
            Some(archive) => {
                // On each of several media is one that knows what was written until then.
                archive.index.hear_of_digests(&index);
                archive.files.extend(file);
            }
            None => archives.push(Parts {
                index,
                files: file.into_iter().collect(),
            }),
        }
    };
    for path in files {
        let Some((archive, number)) = PartsIndex::archive_of_part(file_name(path)) else {
            let index = PartsIndex::read(path).map_err(super::store_error)?;
            let beside =
                (1..=index.count()).map(|number| (path.with_file_name(index.part_name(number)), number));
            let beside: Vec<_> = beside.filter(|(path, _)| path.exists()).collect();
            add(index.clone(), None);
            beside.into_iter().for_each(|part| add(index.clone(), Some(part)));
            continue;
        };
        let index = index_of(store, path, archive, files)?;
        if number > index.count() {
            return Err(failure_hint(
                ExitCode::Input,
                format!("{}: its archive has {} parts", path.display(), index.count()),
                "it is a part of another archive of the same name: take its own index along",
            ));
        }
        add(index, Some(((*path).clone(), number)));
    }
    for archive in &mut archives {
        archive.files.sort_by_key(|(_, number)| *number);
        archive.files.dedup_by_key(|(_, number)| *number);
    }
    Ok(archives)
}

/// Takes in the parts; the images, when none is missing any more.
///
/// # Errors
/// When a part is damaged or cannot be read; those before it are kept.
pub(super) fn load(
    store: &Store,
    parts: &Parts,
    name: Option<&ImageReference>,
    progress: &ArchiveProgress,
) -> anyhow::Result<Option<Vec<LoadedImage>>> {
    let Parts { index, files } = parts;
    progress.total(files.iter().map(|(_, number)| index.part_size(*number)).sum());
    for (path, number) in files {
        let taken = File::open(path)
            .map_err(StoreError::io("open", path))
            .and_then(|file| {
                store.load_part(
                    index,
                    *number,
                    progress.reading(file),
                    &path.display().to_string(),
                )
            });
        if !taken.map_err(super::store_error)? {
            progress.say(&format!("{}: was here before", path.display()));
        }
    }
    let state = store.complete_parts(index, name, &mut |event| progress.loading(event));
    let missing = match state.map_err(super::store_error)? {
        PartsState::Loaded(loaded) => return Ok(Some(loaded)),
        PartsState::Missing(missing) => missing,
    };
    let count = index.count();
    progress.end(&format!(
        "{}: {} of {count} parts are here",
        index.archive(),
        count - missing.len() as u32
    ));
    let mut names: Vec<String> = missing
        .iter()
        .take(LISTED)
        .map(|number| index.part_name(*number))
        .collect();
    if missing.len() > LISTED {
        names.push(format!("{} more", missing.len() - LISTED));
    }
    anstream::eprintln!("load the rest to have its images: {}", names.join(", "));
    Ok(None)
}

/// The index beside the part, or named with it, or that came with an earlier one.
fn index_of(store: &Store, path: &Path, archive: &str, files: &[&PathBuf]) -> anyhow::Result<PartsIndex> {
    let name = PartsIndex::file_name(archive);
    let beside = path.with_file_name(&name);
    let named = files.iter().find(|file| file_name(file) == name);
    let index = if beside.exists() {
        PartsIndex::read(&beside).map(Some)
    } else if let Some(named) = named {
        PartsIndex::read(named).map(Some)
    } else {
        store.parts_index(archive)
    };
    index.map_err(super::store_error)?.ok_or_else(|| {
        failure_hint(
            ExitCode::Input,
            format!(
                "{}: the index of its archive, {name}, is not beside it",
                path.display()
            ),
            "copy the index along: it is small, and says what the part has to be",
        )
    })
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}
