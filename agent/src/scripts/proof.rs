//! Proof that a script in the rootfs is, byte for byte, the file of a verified layer.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gantry_model::Digest;
use gantry_store::{EntryKind, LayerError, Store, Toc};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use sha2::{Digest as _, Sha256};

use crate::place::Ownership;

/// How names of shell scripts end.
const SHELL_SCRIPT: &str = ".sh";

/// Whether a file of this name, or path, is a shell script by its ending.
pub(crate) fn is_shell_script(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(SHELL_SCRIPT)
}

/// Why a script is not run.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// No layer has it, or an upper one hides it.
    #[error("the image has no script {path}; look at its scripts/ folder")]
    NotInImage {
        /// Path below the rootfs.
        path: String,
    },
    /// It is a folder or a symbolic link.
    #[error("{path} of the image is not a regular file; only regular files are run")]
    NotAFile {
        /// Path below the rootfs.
        path: String,
    },
    /// Its bytes are others than the image's.
    #[error(
        "{path} on this host is not the image's file: expected {expected}, found {found}; \
         it was changed here and is not run; reset and apply again"
    )]
    Changed {
        /// Path below the rootfs.
        path: String,
        /// The image's.
        expected: Digest,
        /// The host's.
        found: Digest,
    },
    /// A template makes another one of it.
    #[error(
        "{path}.tmpl of the image makes another {path}, which is run, and hosts run programs only as the image has them; \
         rename the template in the image, or let the program read a file that a template makes"
    )]
    Rendered {
        /// Path below the rootfs.
        path: String,
    },
    /// A layer's table of contents cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The script cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The script.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Proves that `path` below `rootfs` is the file that the layers (bottom first) have there.
pub(super) fn prove(store: &Store, layers: &[Digest], rootfs: &Path, path: &str) -> Result<(), ProofError> {
    prove_is(expected(store, layers, path)?, rootfs, path)
}

/// Proves that the content of `path` below `rootfs` is `expected`.
pub(super) fn prove_is(expected: Digest, rootfs: &Path, path: &str) -> Result<(), ProofError> {
    let io = |source| ProofError::Io {
        path: rootfs.join(path),
        source,
    };
    let found = digest_of(open_below(rootfs, path).map_err(io)?).map_err(io)?;
    if found == expected {
        Ok(())
    } else {
        Err(ProofError::Changed {
            path: path.to_owned(),
            expected,
            found,
        })
    }
}

/// The content of the file at `path` below `rootfs`, once it is proved as by [`prove`]; at most `limit` bytes of it.
pub(super) fn proved_content(
    store: &Store,
    layers: &[Digest],
    rootfs: &Path,
    path: &str,
    limit: u64,
) -> Result<Vec<u8>, ProofError> {
    let expected = expected(store, layers, path)?;
    let io = |source| ProofError::Io {
        path: rootfs.join(path),
        source,
    };
    let file = open_below(rootfs, path).map_err(io)?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).map_err(io)?;
    let found = Digest::of(&content);
    if found == expected {
        Ok(content)
    } else {
        Err(ProofError::Changed {
            path: path.to_owned(),
            expected,
            found,
        })
    }
}

/// What the topmost layer that says something about `path` says its content is.
fn expected(store: &Store, layers: &[Digest], path: &str) -> Result<Digest, ProofError> {
    // From the top, and no further than needed: tables of contents are long.
    let tables = layers.iter().rev().map(|layer| store.layer_toc(layer));
    lookup(tables, path).map(|found| found.digest)
}

/// What an image has at a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Of its content.
    pub(super) digest: Digest,
    /// How many layers are above the one that has it.
    pub(super) above: usize,
    /// Whose it is there.
    pub(super) ownership: Ownership,
}

/// The file at `path`, as overlayfs would find it; `tables` are the tables of contents, the topmost first.
pub(super) fn lookup<T: Borrow<Toc>>(
    tables: impl Iterator<Item = Result<T, LayerError>>,
    path: &str,
) -> Result<Found, ProofError> {
    let missing = || ProofError::NotInImage {
        path: path.to_owned(),
    };
    let no_file = || ProofError::NotAFile {
        path: path.to_owned(),
    };
    for (above, table) in tables.enumerate() {
        let table = table?;
        let toc = table.borrow();
        // Folders above the file may hide everything below them.
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        let mut hides = false;
        for folder in folders {
            match toc.entry(folder).map(|entry| &entry.kind) {
                None | Some(EntryKind::Directory { opaque: false }) => {}
                Some(EntryKind::Directory { opaque: true } | EntryKind::Whiteout) => hides = true,
                Some(_) => return Err(missing()),
            }
        }
        let Some(entry) = toc.entry(path) else {
            if hides {
                return Err(missing());
            }
            continue;
        };
        let target = match &entry.kind {
            EntryKind::HardLink { target } => &toc.entries()[*target as usize].kind,
            kind => kind,
        };
        return match target {
            EntryKind::File { digest, .. } => Ok(Found {
                digest: *digest,
                above,
                ownership: Ownership {
                    mode: entry.mode,
                    uid: entry.uid,
                    gid: entry.gid,
                },
            }),
            EntryKind::Whiteout => Err(missing()),
            _ => Err(no_file()),
        };
    }
    Err(missing())
}

/// Opens a file without following any link below `rootfs`.
pub(super) fn open_below(rootfs: &Path, path: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(
        CWD,
        rootfs,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(file.into()),
        // Kernels before 5.6: name by name.
        Err(rustix::io::Errno::NOSYS) => {
            let mut folder = root;
            let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
            for part in folders.split('/').filter(|part| !part.is_empty()) {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                folder = openat(&folder, part, flags, Mode::empty())?;
            }
            Ok(openat(&folder, name, flags, Mode::empty())?.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::test_layers::{Entry, unpacked_entries};

    struct Image {
        folder: tempfile::TempDir,
        store: Store,
        layers: Vec<Digest>,
    }

    impl Image {
        fn of(layers: &[&[Entry<'_>]]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("gantry")).unwrap();
            let layers = layers
                .iter()
                .map(|entries| unpacked_entries(&store, entries).digest)
                .collect();
            Self {
                folder,
                store,
                layers,
            }
        }

        fn prove(&self, content: &str) -> Result<(), ProofError> {
            let rootfs = self.folder.path().join("rootfs");
            fs::create_dir_all(rootfs.join("scripts")).unwrap();
            fs::write(rootfs.join("scripts/init.sh"), content).unwrap();
            prove(&self.store, &self.layers, &rootfs, "scripts/init.sh")
        }
    }

    const SCRIPT: &str = "scripts/init.sh";

    #[test]
    fn the_topmost_layers_file_is_the_one_that_counts() {
        let image = Image::of(&[
            &[Entry::File(SCRIPT, "old")],
            &[Entry::File(SCRIPT, "new")],
            &[Entry::File("x", "")],
        ]);
        image.prove("new").unwrap();
        for content in ["old", "new and more", ""] {
            assert!(
                matches!(image.prove(content), Err(ProofError::Changed { .. })),
                "{content}"
            );
        }
    }

    #[test]
    fn hidden_scripts_are_not_in_the_image() {
        let old = Entry::File(SCRIPT, "old");
        for hiding in [
            Entry::Whiteout(SCRIPT),
            Entry::Whiteout("scripts"),
            Entry::Opaque("scripts"),
        ] {
            let image = Image::of(&[&[old], &[hiding]]);
            assert!(
                matches!(image.prove("old"), Err(ProofError::NotInImage { .. })),
                "{hiding:?}"
            );
        }
        assert!(matches!(
            Image::of(&[&[Entry::File("x", "")]]).prove("old"),
            Err(ProofError::NotInImage { .. })
        ));
    }

    #[test]
    fn a_link_in_the_place_of_the_script_is_not_followed() {
        let image = Image::of(&[&[Entry::File(SCRIPT, "old")]]);
        image.prove("old").unwrap();
        let scripts = image.folder.path().join("rootfs/scripts");
        fs::rename(scripts.join("init.sh"), scripts.join("other")).unwrap();
        std::os::unix::fs::symlink("other", scripts.join("init.sh")).unwrap();
        let proof = prove(
            &image.store,
            &image.layers,
            &image.folder.path().join("rootfs"),
            SCRIPT,
        );
        assert!(matches!(proof, Err(ProofError::Io { .. })));
    }
}
