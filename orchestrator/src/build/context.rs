//! This module owns [`BuildContext`]: the folder that COPY reads from, and nothing outside of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::clusterfile::spelling::closest;

use super::ignore::Ignore;
use super::pattern::{parts, step};

/// Most files and folders one pattern may match.
const MAX_MATCHES: usize = 100_000;

/// The folder that is built from.
#[derive(Debug, Clone)]
pub(super) struct BuildContext {
    /// As it was given: for messages.
    shown: PathBuf,
    /// Without links.
    root: PathBuf,
    /// What is kept out.
    ignore: Ignore,
}

/// What is done with something in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It is copied.
    Taken,
    /// A folder that is kept out, but not everything in it.
    Searched,
    /// It is kept out, with everything in it.
    KeptOut,
}

/// One thing that a source of COPY names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// What it is, and where it lies.
    pub(super) kind: FoundKind,
    /// Its name in a destination folder; empty for the context itself.
    pub(super) name: String,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundKind {
    /// A file, or a link that is copied as a link.
    File(PathBuf),
    /// A folder, whose content is meant.
    Folder(PathBuf),
    /// A file that stands in the Kubefile.
    Text(Vec<u8>),
}

impl FoundKind {
    fn at(path: PathBuf, is_folder: bool) -> Self {
        if is_folder {
            Self::Folder(path)
        } else {
            Self::File(path)
        }
    }
}

/// Why a source names nothing that can be copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotFound {
    /// What is wrong.
    pub(super) message: String,
    /// What was perhaps meant.
    pub(super) help: Option<String>,
}

impl BuildContext {
    /// The context at `path`.
    ///
    /// # Errors
    /// When it is not a folder.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(path)?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self {
            shown: path.to_owned(),
            ignore: Ignore::read(&root).map_err(io::Error::other)?,
            root,
        })
    }

    /// What is done with what lies at `path`.
    pub(super) fn part(&self, path: &Path) -> Part {
        // What was unpacked from an archive lies elsewhere.
        let below = path.strip_prefix(&self.root).ok();
        if below.and_then(|path| self.ignore.keeps_out(path)).is_none() {
            Part::Taken
        } else if self.ignore.lets_in_again() {
            Part::Searched
        } else {
            Part::KeptOut
        }
    }

    /// The files that `found` brings, by their paths in the destination, sorted.
    ///
    /// # Errors
    /// When a folder cannot be listed, or has too many.
    pub(super) fn files(&self, found: &Found) -> Result<Vec<String>, String> {
        let FoundKind::Folder(root) = &found.kind else {
            return Ok(vec![found.name.clone()]);
        };
        let (mut files, mut folders) = (Vec::new(), vec![(root.clone(), String::new())]);
        while let Some((folder, below)) = folders.pop() {
            let unreadable = |error| format!("cannot list {}: {error}", folder.display());
            for entry in fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let path = format!("{below}{}", entry.file_name().to_string_lossy());
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                match self.part(&entry.path()) {
                    Part::KeptOut => {}
                    _ if is_folder => folders.push((entry.path(), format!("{path}/"))),
                    Part::Taken => files.push(path),
                    Part::Searched => {}
                }
                if files.len() > MAX_MATCHES {
                    return Err(format!("{} has more than {MAX_MATCHES} files", root.display()));
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// What `source` names: one thing, or with `*`, `?` or `[…]` in it any number, sorted.
    ///
    /// A link that is named is followed, inside the context; links that a pattern or a folder brings stay links.
    ///
    /// # Errors
    /// When it leads outside, or names nothing.
    pub(super) fn find(&self, source: &str) -> Result<Vec<Found>, NotFound> {
        let Some(parts) = parts(source) else {
            return Err(NotFound {
                message: format!("{source:?} leads out of the build context"),
                help: Some(format!(
                    "only what lies below {} can be copied",
                    self.shown.display()
                )),
            });
        };
        let literal: PathBuf = self.root.join(parts.join("/"));
        if fs::symlink_metadata(&literal).is_ok() {
            return self
                .literal(source, &literal, parts.last().copied().unwrap_or_default())
                .map(|one| vec![one]);
        }
        if !source.contains(['*', '?', '[']) {
            return Err(self.missing(source, &parts));
        }
        let mut found = vec![(self.root.clone(), String::new())];
        for part in &parts {
            found = step(found, part).map_err(|message| NotFound { message, help: None })?;
            if found.len() > MAX_MATCHES {
                let message = format!("{source:?} matches more than {MAX_MATCHES} files");
                return Err(NotFound {
                    message,
                    help: Some("name the folder instead".to_owned()),
                });
            }
        }
        if found.is_empty() {
            return Err(NotFound {
                message: format!(
                    "nothing in the build context {} matches {source:?}",
                    self.shown.display()
                ),
                help: None,
            });
        }
        let found = found.into_iter().filter_map(|(path, name)| {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            let kept = match self.part(&path) {
                Part::Taken => true,
                Part::Searched => is_folder,
                Part::KeptOut => false,
            };
            kept.then(|| Found {
                kind: FoundKind::at(path, is_folder),
                name,
            })
        });
        let found: Vec<Found> = found.collect();
        if found.is_empty() {
            return Err(NotFound {
                message: format!(
                    "everything that matches {source:?} is kept out by {}",
                    self.ignore.file()
                ),
                help: Some(format!("let it in again with a line !{source}")),
            });
        }
        Ok(found)
    }

    fn literal(&self, source: &str, path: &Path, name: &str) -> Result<Found, NotFound> {
        let real = fs::canonicalize(path).map_err(|error| NotFound {
            message: format!("{source:?} is a link that leads nowhere: {error}"),
            help: Some("copy the folder it lies in to keep it as a link".to_owned()),
        })?;
        if !real.starts_with(&self.root) {
            return Err(NotFound {
                message: format!(
                    "{source:?} is a link out of the build context, to {}",
                    real.display()
                ),
                help: Some(format!(
                    "only what lies below {} can be copied",
                    self.shown.display()
                )),
            });
        }
        let is_folder = real.is_dir();
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        if let Some(place) = self.ignore.keeps_out(below)
            && !(is_folder && self.ignore.lets_in_again())
        {
            return Err(NotFound {
                message: format!("{source:?} is kept out of the build by {place}"),
                help: Some(format!(
                    "take that line out, or let it in again with a line !{source}"
                )),
            });
        }
        Ok(Found {
            kind: FoundKind::at(real, is_folder),
            name: name.to_owned(),
        })
    }

    fn missing(&self, source: &str, parts: &[&str]) -> NotFound {
        // The first part that is not there decides what was perhaps meant.
        let mut folder = self.root.clone();
        let mut help = None;
        for (position, part) in parts.iter().enumerate() {
            let next = folder.join(part);
            if next.exists() {
                folder = next;
                continue;
            }
            let names: Vec<String> = fs::read_dir(&folder)
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
            help = closest(part, names.iter().map(String::as_str)).map(|near| {
                let before = parts[..position].iter().copied();
                let path: Vec<&str> = before
                    .chain([near])
                    .chain(parts[position + 1..].iter().copied())
                    .collect();
                format!("did you mean {}?", path.join("/"))
            });
            break;
        }
        NotFound {
            message: format!("{source:?} is not in the build context {}", self.shown.display()),
            help,
        }
    }
}

#[cfg(test)]
mod tests;
