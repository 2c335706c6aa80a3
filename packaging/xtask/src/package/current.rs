//! Whether packages have to be made again: compressing them takes longer than everything else when no program changed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

use super::{Package, timestamp};
use crate::repository;

/// What the packages of a folder were made of.
pub(super) struct Inputs {
    text: String,
    note: PathBuf,
}

impl Inputs {
    /// What those of `package` in `out` would be made of now.
    pub(super) fn of(package: &Package, program: &Path, out: &Path) -> Result<Self> {
        let mut text = format!("time {}\n", timestamp()?);
        let maker = std::env::current_exe().context("the running program has no path")?;
        let texts = ["LICENSE", "CHANGELOG.md"].map(|name| repository().join(name));
        let mut waiting = vec![
            program.to_owned(),
            maker,
            repository().join("packaging").join(package.folder),
        ];
        waiting.extend(texts);
        while let Some(path) = waiting.pop() {
            let metadata = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if metadata.is_dir() {
                let entries = fs::read_dir(&path)?.collect::<Result<Vec<_>, _>>()?;
                waiting.extend(entries.iter().map(fs::DirEntry::path));
                continue;
            }
            let changed = metadata.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
            writeln!(text, "{} {changed} {}", path.display(), metadata.len())?;
        }
        Ok(Self {
            text,
            note: out.join(format!(".{}.inputs", package.name)),
        })
    }

    /// The packages that were made of exactly this, if they are still there.
    pub(super) fn made(&self) -> Option<Vec<PathBuf>> {
        let note = fs::read_to_string(&self.note).ok()?;
        let made: Vec<PathBuf> = note
            .strip_prefix(&self.text)?
            .lines()
            .map(PathBuf::from)
            .collect();
        (!made.is_empty() && made.iter().all(|path| path.is_file())).then_some(made)
    }

    /// Notes that `made` are made of this.
    pub(super) fn note(&self, made: &[PathBuf]) -> Result<()> {
        let made: String = made.iter().map(|path| format!("{}\n", path.display())).collect();
        fs::write(&self.note, format!("{}{made}", self.text))
            .with_context(|| format!("cannot write {}", self.note.display()))
    }
}
