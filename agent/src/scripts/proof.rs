//! Proof that a script in the rootfs is, byte for byte, the file of a verified layer.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gantry_model::{Digest, is_data_file};
use gantry_store::{EntryKind, LayerError, Store, TocEntry};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use sha2::{Digest as _, Sha256};

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
    let expected = expected(store, layers, path)?;
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

/// Proves every program that the layers (bottom first) have below `folder` of the rootfs, which ends with `/`: files that
/// may be executed, those named like shell scripts, and those in `named`; none of them where its name says that it is data.
pub(super) fn prove_programs(
    store: &Store,
    layers: &[Digest],
    rootfs: &Path,
    folder: &str,
    named: &BTreeSet<String>,
) -> Result<(), ProofError> {
    let mut programs = BTreeSet::new();
    for layer in layers {
        let toc = store.layer_toc(layer)?;
        let is_program = |entry: &&TocEntry| {
            let path = &entry.path;
            let runs = entry.mode & 0o111 != 0 || is_shell_script(path) || named.contains(path);
            let is_file = matches!(entry.kind, EntryKind::File { .. } | EntryKind::HardLink { .. });
            is_file && runs && path.starts_with(folder) && !is_data_file(path)
        };
        programs.extend(
            toc.entries()
                .iter()
                .filter(is_program)
                .map(|entry| entry.path.clone()),
        );
    }
    for program in programs {
        match prove(store, layers, rootfs, &program) {
            // An upper layer took it away.
            Ok(()) | Err(ProofError::NotInImage { .. } | ProofError::NotAFile { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the topmost layer that says something about `path` says its content is.
fn expected(store: &Store, layers: &[Digest], path: &str) -> Result<Digest, ProofError> {
    let missing = || ProofError::NotInImage {
        path: path.to_owned(),
    };
    for layer in layers.iter().rev() {
        let toc = store.layer_toc(layer)?;
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
        match toc.entry(path).map(|entry| &entry.kind) {
            Some(EntryKind::File { digest, .. }) => return Ok(*digest),
            Some(EntryKind::HardLink { target }) => {
                return match &toc.entries()[*target as usize].kind {
                    EntryKind::File { digest, .. } => Ok(*digest),
                    _ => Err(ProofError::NotAFile {
                        path: path.to_owned(),
                    }),
                };
            }
            Some(EntryKind::Whiteout) => return Err(missing()),
            Some(_) => {
                return Err(ProofError::NotAFile {
                    path: path.to_owned(),
                });
            }
            None if hides => return Err(missing()),
            None => {}
        }
    }
    Err(missing())
}

/// Opens a file without following any link below `rootfs`.
fn open_below(rootfs: &Path, path: &str) -> io::Result<File> {
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
    fn programs_of_a_folder_are_the_images() {
        let image = Image::of(&[
            &[
                Entry::File("apps/web/gone.sh", ""),
                Entry::File("apps/web/up.SH", "up"),
                Entry::File("apps/web/values.yaml", "a: 1"),
                Entry::File("apps/web/run", "run"),
                Entry::File("apps/web/notes", ""),
                Entry::File("apps/db/up.sh", "db"),
            ],
            &[Entry::Whiteout("apps/web/gone.sh")],
        ]);
        let rootfs = image.folder.path().join("rootfs");
        let web = rootfs.join("apps/web");
        fs::create_dir_all(&web).unwrap();
        let named = BTreeSet::from(["apps/web/run".to_owned()]);
        let prove = || prove_programs(&image.store, &image.layers, &rootfs, "apps/web/", &named);
        fs::write(web.join("run"), "run").unwrap();
        fs::write(web.join("up.SH"), "up").unwrap();
        fs::write(web.join("values.yaml"), "a: 2").unwrap();
        prove().unwrap();
        fs::write(web.join("run"), "other").unwrap();
        assert!(matches!(prove(), Err(ProofError::Changed { .. })));
        fs::write(web.join("run"), "run").unwrap();
        fs::write(web.join("up.SH"), "other").unwrap();
        assert!(matches!(prove(), Err(ProofError::Changed { .. })));
        fs::remove_file(web.join("up.SH")).unwrap();
        assert!(matches!(prove(), Err(ProofError::Io { .. })));
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
