//! This module owns [`BuildContext`]: the folder that COPY reads from, and nothing outside of it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::clusterfile::spelling::closest;

/// Most files and folders one pattern may match.
const MAX_MATCHES: usize = 100_000;

/// The folder that is built from.
#[derive(Debug, Clone)]
pub(super) struct BuildContext {
    /// As it was given: for messages.
    shown: PathBuf,
    /// Without links.
    root: PathBuf,
}

/// One thing that a source of COPY names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its name in a destination folder; empty for the context itself.
    pub(super) name: String,
    /// Whether it is a folder, whose content is meant.
    pub(super) is_folder: bool,
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
            root,
        })
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
        let found = found.into_iter().map(|(path, name)| {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            Found {
                path,
                name,
                is_folder,
            }
        });
        Ok(found.collect())
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
        Ok(Found {
            path: real,
            name: name.to_owned(),
            is_folder,
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

/// The parts of a path below the context: a leading `/` means the context, as docker has it. None when it leads out.
fn parts(source: &str) -> Option<Vec<&str>> {
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
fn step(folders: Vec<(PathBuf, String)>, part: &str) -> Result<Vec<(PathBuf, String)>, String> {
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
fn matcher(part: &str) -> Result<GlobMatcher, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> (tempfile::TempDir, BuildContext) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["bin", "etc", "charts/web"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in [
            "etc/daemon.json",
            "etc/kubelet.service",
            "bin/kubeadm",
            "charts/web/Chart.yaml",
            "a[1].txt",
        ] {
            fs::write(dir.path().join(path), path).unwrap();
        }
        let context = BuildContext::open(dir.path()).unwrap();
        (dir, context)
    }

    fn names(context: &BuildContext, source: &str) -> Vec<String> {
        context
            .find(source)
            .unwrap()
            .into_iter()
            .map(|found| found.name)
            .collect()
    }

    #[test]
    fn a_source_is_a_name_or_a_pattern() {
        let (_dir, context) = context();
        assert_eq!(names(&context, "./etc/daemon.json"), ["daemon.json"]);
        assert_eq!(names(&context, "/etc/*.json"), ["daemon.json"]);
        assert_eq!(names(&context, "*/k*"), ["kubeadm", "kubelet.service"]);
        assert_eq!(names(&context, "a[1].txt"), ["a[1].txt"]);
        assert!(context.find(".").unwrap()[0].is_folder);
    }

    #[test]
    fn nothing_outside_is_found_and_slips_are_recognised() {
        let (dir, context) = context();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        for source in ["../x", "etc/../../x", "out", "out/passwd", "..", "o*/passwd"] {
            assert!(context.find(source).is_err(), "{source}");
        }
        let error = context.find("etc/deamon.json").unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean etc/daemon.json?"));
        assert!(context.find("*.yaml").unwrap_err().message.contains("matches"));
    }
}
