//! This module owns [`Configs`]: files of a rootfs as an operator wants them, over what the image has there or what its
//! templates made.
//!
//! ```text
//! rootfs/PATH ── before it is written first ──▶ configs/under/DIGEST-OF-PATH
//!     ▲  └─ written, noted in configs/files.json           │
//!     └────────────── given back when no longer wanted ◀───┘
//! ```
//!
//! Templates whose files are written over are rendered into `under`, so what is given back is what it would be by now.

mod error;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gantry_model::{ConfigFile, Digest, check_config_path};
use gantry_protocol::limits::{MAX_CONFIG_FILES, MAX_CONFIG_FILES_LEN, MAX_FILE_UNDER_CONFIG_LEN};
use gantry_system::files;

use crate::place::{Ownership, Place, Tree, is_file};

pub use error::ConfigsError;

/// What was written: paths below the rootfs, and the digests of their content.
const NOTE: &str = "files.json";
const UNDER: &str = "under";
/// A file that the image does not have.
const NEW: Ownership = Ownership {
    mode: 0o100_644,
    uid: 0,
    gid: 0,
};

/// Whether `files` are within bounds.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check(files: &[ConfigFile]) -> Result<(), String> {
    if files.len() > MAX_CONFIG_FILES {
        let count = files.len();
        return Err(format!(
            "there are {count} config files; at most {MAX_CONFIG_FILES} are allowed"
        ));
    }
    let len: usize = files.iter().map(|file| file.content.len()).sum();
    if len > MAX_CONFIG_FILES_LEN {
        return Err(format!(
            "config files have {len} bytes; at most {MAX_CONFIG_FILES_LEN} are allowed"
        ));
    }
    let mut paths = BTreeSet::new();
    for file in files {
        check_config_path(&file.path)
            .map_err(|error| format!("{:?} is not a config file's path: {error}", file.path))?;
        if !paths.insert(&file.path) {
            return Err(format!("config file {} is given twice", file.path));
        }
    }
    Ok(())
}

/// The config files of one generation.
#[derive(Debug)]
pub struct Configs {
    rootfs: PathBuf,
    folder: PathBuf,
    noted: BTreeMap<String, Digest>,
    /// What they stand over; none before the first is written.
    under: Option<OwnedFd>,
}

impl Configs {
    /// Those of the generation mounted at `rootfs`, noted in `folder`.
    ///
    /// # Errors
    /// When the note cannot be read or is damaged.
    pub(crate) fn open(rootfs: PathBuf, folder: PathBuf) -> Result<Self, ConfigsError> {
        let noted = match std::fs::read(folder.join(NOTE)) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let under = match File::open(folder.join(UNDER)) {
            Ok(under) => Ok(Some(under.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self {
            noted: noted.map_err(ConfigsError::note("read"))?,
            under: under.map_err(ConfigsError::note("read"))?,
            rootfs,
            folder,
        })
    }

    /// Where the generation is mounted.
    pub(crate) fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// Where what belongs at `path` of the rootfs lies while a config file stands there; none when none does.
    pub(crate) fn under(&self, path: &str) -> Option<Place<'_>> {
        self.noted
            .contains_key(path)
            .then(|| self.under_place(path))
            .flatten()
    }

    /// Makes `files` what the rootfs has, and gives back what is under those that are not among them.
    ///
    /// # Errors
    /// When something else than a file is there, or the file system fails; the same files again go on from there.
    pub(crate) fn write(&mut self, files: &[ConfigFile]) -> Result<(), ConfigsError> {
        if files.is_empty() && self.noted.is_empty() {
            return Ok(());
        }
        let tree = self.tree()?;
        self.make_folders()
            .map_err(ConfigsError::note("make a folder for"))?;
        let wanted = digests(files);
        let gone: Vec<String> = self
            .noted
            .keys()
            .filter(|path| !wanted.contains_key(*path))
            .cloned()
            .collect();
        for path in &gone {
            self.give_back(&tree, path)?;
        }
        for file in files.iter().filter(|file| !self.noted.contains_key(&file.path)) {
            self.keep(&tree, &file.path)?;
        }
        // Noted before anything is written: what is noted is given back, however far this comes.
        let note = serde_json::to_vec_pretty(&wanted).expect("paths and digests are plain data");
        files::write_atomically(&self.folder.join(NOTE), &note, 0o600)
            .map_err(ConfigsError::note("write"))?;
        self.noted = wanted;
        for path in &gone {
            let under = self.under_place(path);
            under
                .map_or(Ok(()), |under| under.remove())
                .map_err(ConfigsError::io("forget what was under", path))?;
        }
        for file in files {
            put(&tree, file).map_err(ConfigsError::io("write", &file.path))?;
        }
        Ok(())
    }

    /// Whether `files`, and no others, are in the rootfs as wanted.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn are_written(&self, files: &[ConfigFile]) -> Result<bool, ConfigsError> {
        Ok(self.noted == digests(files) && self.changed()?.is_empty())
    }

    /// Which files are not as they were written: `PATH was changed by hand`, `PATH is gone`.
    ///
    /// # Errors
    /// When the rootfs cannot be read.
    pub(crate) fn changed(&self) -> Result<Vec<String>, ConfigsError> {
        if self.noted.is_empty() {
            return Ok(Vec::new());
        }
        let tree = self.tree()?;
        let mut changed = Vec::new();
        for (path, expected) in &self.noted {
            let there = read(&tree, path, MAX_CONFIG_FILES_LEN);
            match there {
                Ok(Some(there)) if Digest::of(&there) == *expected => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    changed.push(format!("{path} is gone"));
                }
                _ => changed.push(format!("{path} was changed by hand")),
            }
        }
        Ok(changed)
    }

    fn tree(&self) -> Result<Tree, ConfigsError> {
        Tree::open(&self.rootfs).map_err(|source| ConfigsError::Rootfs {
            path: self.rootfs.clone(),
            source,
        })
    }

    /// The folder is nobody else's: what config files stand over may be secret too.
    fn make_folders(&mut self) -> io::Result<()> {
        let under = self.folder.join(UNDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&under)?;
        files::sync_dir(&self.folder)?;
        self.under = Some(File::open(under)?.into());
        Ok(())
    }

    fn under_place(&self, path: &str) -> Option<Place<'_>> {
        let name = Digest::of(path.as_bytes()).hex();
        self.under.as_ref().map(|under| Place::new(under.as_fd(), name))
    }

    /// Keeps what is at `path` now, or that nothing is.
    fn keep(&self, tree: &Tree, path: &str) -> Result<(), ConfigsError> {
        let io = ConfigsError::io("keep what is under", path);
        let Some(under) = self.under_place(path) else {
            return Ok(());
        };
        let refused = |what: String| ConfigsError::Refused {
            path: path.to_owned(),
            what,
        };
        let Some((folder, name)) = tree.find(path).map_err(&io)? else {
            return under.remove().map_err(io);
        };
        let place = Place::new(folder.as_fd(), name);
        match place.stat().map_err(&io)? {
            None => under.remove().map_err(io),
            Some(stat) if is_file(&stat) => {
                let most = MAX_FILE_UNDER_CONFIG_LEN;
                let content = place
                    .read(most)
                    .map_err(&io)?
                    .ok_or_else(|| refused(format!("a file longer than {most} bytes")))?;
                under.put(&content, (&stat).into()).map_err(io)
            }
            Some(_) => Err(refused("a folder or a link".into())),
        }
    }

    fn give_back(&self, tree: &Tree, path: &str) -> Result<(), ConfigsError> {
        let give_back = || -> io::Result<()> {
            let Some(under) = self.under_place(path) else {
                return Ok(());
            };
            let Some(stat) = under.stat()? else {
                let found = tree.find(path)?;
                return found.map_or(Ok(()), |(folder, name)| Place::new(folder.as_fd(), name).remove());
            };
            let content = under.read(MAX_FILE_UNDER_CONFIG_LEN)?.unwrap_or_default();
            let (folder, name) = tree.make(path)?;
            Place::new(folder.as_fd(), name).put(&content, (&stat).into())
        };
        give_back().map_err(ConfigsError::io("give back what was under", path))
    }
}

fn digests(files: &[ConfigFile]) -> BTreeMap<String, Digest> {
    let digest = |file: &ConfigFile| (file.path.clone(), Digest::of(file.content.as_bytes()));
    files.iter().map(digest).collect()
}

fn read(tree: &Tree, path: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
    let (folder, name) = tree
        .find(path)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Place::new(folder.as_fd(), name).read(most)
}

/// Writes the file unless it is there already; mode and owner stay those of what was there.
fn put(tree: &Tree, file: &ConfigFile) -> io::Result<()> {
    let (folder, name) = tree.make(&file.path)?;
    let place = Place::new(folder.as_fd(), name);
    let stat = place.stat()?.filter(is_file);
    if stat.is_some() && place.read(file.content.len())?.as_deref() == Some(file.content.as_bytes()) {
        return Ok(());
    }
    place.put(
        file.content.as_bytes(),
        stat.as_ref().map_or(NEW, Ownership::from),
    )
}
