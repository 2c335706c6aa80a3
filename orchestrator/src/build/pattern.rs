//! Paths and patterns below the context, as docker reads them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// The parts of a path below the context: a leading `/` means the context, as docker has it. None when it leads out.
pub(super) fn parts(source: &str) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    for component in Path::new(source).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(parts)
}

/// Goes one part of a pattern deeper: everything whose name matches, sorted.
pub(super) fn step(folders: Vec<(PathBuf, String)>, part: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let matcher = matcher(part)?;
    let mut found = Vec::new();
    for (folder, _) in folders {
        // Never through a link: it may lead out of the context.
        if !fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        let entries =
            fs::read_dir(&folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort_unstable();
        for name in names {
            if matcher.is_match(Path::new(&name)) {
                let text = name
                    .to_str()
                    .ok_or_else(|| format!("the file name {name:?} is not UTF-8"))?;
                found.push((folder.join(&name), text.to_owned()));
            }
        }
    }
    Ok(found)
}

/// `*`, `?` and `[…]` as in docker: braces mean themselves, and `*` stays within one name.
pub(super) fn matcher(part: &str) -> Result<GlobMatcher, String> {
    let pattern: String = part
        .chars()
        .map(|c| match c {
            '{' => "[{]".to_owned(),
            '}' => "[}]".to_owned(),
            other => other.to_string(),
        })
        .collect();
    GlobBuilder::new(&pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| format!("{part:?} is not a pattern: {}", error.kind()))
}
