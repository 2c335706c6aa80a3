//! This module owns [`Tree`]: reads what docker's registry keeps in a file system.
//!
//! ```text
//! registry/docker/registry/v2/
//!   repositories/NAME/_manifests/tags/TAG/current/link      text: the digest of a manifest
//!   repositories/NAME/_manifests/revisions/sha256/HEX/link  the repository has this manifest
//!   repositories/NAME/_layers/sha256/HEX/link               the repository has this blob
//!   blobs/sha256/HE/HEX/data                                the bytes
//! ```
//!
//! The tree comes from an image: no link in it is followed, so nothing outside is ever read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gantry_model::Digest;
use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

/// Where the tree begins below the rootfs.
const ROOT: [&str; 4] = ["registry", "docker", "registry", "v2"];
/// Longest text of a link, in bytes: a digest has 71.
const MAX_LINK_LEN: u64 = 256;
/// Largest manifest, in bytes: what docker's registry takes at most.
const MAX_MANIFEST_LEN: u64 = 4 << 20;
/// Most names in one folder of the tree.
const MAX_NAMES: usize = 100_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    /// It is not in the tree.
    #[error("it is not in the registry's tree")]
    Missing,
    /// There is no tree at the moment.
    #[error("the rootfs is not mounted, or has no registry/")]
    NoTree,
    /// The disk, or something in the tree that no registry wrote there.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The registry's tree below a rootfs.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    rootfs: PathBuf,
}

impl Tree {
    /// The tree below `rootfs`, which is looked for anew each time.
    pub(super) fn new(rootfs: PathBuf) -> Self {
        Self { rootfs }
    }

    /// The digest of the manifest that `tag` of `repository` names.
    pub(super) fn tagged(&self, repository: &str, tag: &str) -> Result<Digest, TreeError> {
        self.link(&of(repository, &["_manifests", "tags", tag, "current"]))
    }

    /// The bytes of a manifest of `repository`.
    pub(super) fn manifest(&self, repository: &str, digest: &Digest) -> Result<Vec<u8>, TreeError> {
        self.link(&of(
            repository,
            &["_manifests", "revisions", "sha256", &digest.hex()],
        ))?;
        let (file, len) = self.data(digest)?;
        if len > MAX_MANIFEST_LEN {
            return Err(io::Error::other(format!(
                "manifest {digest} is longer than {MAX_MANIFEST_LEN} bytes"
            ))
            .into());
        }
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST_LEN).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A blob of `repository` and its length in bytes.
    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Result<(File, u64), TreeError> {
        self.link(&of(repository, &["_layers", "sha256", &digest.hex()]))?;
        self.data(digest)
    }

    /// The tags of `repository`, sorted.
    pub(super) fn tags(&self, repository: &str) -> Result<Vec<String>, TreeError> {
        self.names(&of(repository, &["_manifests", "tags"]))
    }

    /// What is in the folder that holds repositories whose names begin with `prefix`, sorted.
    pub(super) fn below_repositories(&self, prefix: &[&str]) -> Result<Vec<String>, TreeError> {
        let mut path = vec!["repositories"];
        path.extend(prefix);
        self.names(&path)
    }

    fn data(&self, digest: &Digest) -> Result<(File, u64), TreeError> {
        let hex = digest.hex();
        self.file(&["blobs", "sha256", &hex[..2], &hex, "data"])
    }

    fn link(&self, folder: &[&str]) -> Result<Digest, TreeError> {
        let path: Vec<&str> = folder.iter().copied().chain(["link"]).collect();
        let (file, _) = self.file(&path)?;
        let mut text = String::new();
        file.take(MAX_LINK_LEN).read_to_string(&mut text)?;
        let digest = text.trim().parse();
        digest.map_err(|error| io::Error::other(format!("{}: {error}", path.join("/"))).into())
    }

    fn names(&self, path: &[&str]) -> Result<Vec<String>, TreeError> {
        let folder = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(folder).map_err(io::Error::from)? {
            let entry = entry.map_err(io::Error::from)?;
            // Whatever is not UTF-8 is no name of a repository or tag.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == MAX_NAMES {
                return Err(
                    io::Error::other(format!("more than {MAX_NAMES} names in {}", path.join("/"))).into(),
                );
            }
            names.push(name.to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// A regular file and its length.
    fn file(&self, path: &[&str]) -> Result<(File, u64), TreeError> {
        // Opening a pipe would wait for its writer.
        let file = File::from(self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(TreeError::Missing);
        }
        Ok((file, meta.len()))
    }

    fn open(&self, path: &[&str], last: OFlags) -> Result<OwnedFd, TreeError> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The rootfs itself is reached by the agent's own link.
        let mut at = rustix::fs::open(&self.rootfs, folder, Mode::empty()).map_err(|_| TreeError::NoTree)?;
        for name in ROOT {
            at =
                openat(&at, name, folder | OFlags::NOFOLLOW, Mode::empty()).map_err(|_| TreeError::NoTree)?;
        }
        let Some((last_name, folders)) = path.split_last() else {
            return Err(TreeError::Missing);
        };
        for name in folders {
            at = openat(&at, *name, folder | OFlags::NOFOLLOW, Mode::empty()).map_err(missing)?;
        }
        openat(
            &at,
            *last_name,
            last | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(missing)
    }
}

fn of<'a>(repository: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["repositories"];
    path.extend(repository.split('/'));
    path.extend(rest);
    path
}

fn missing(error: Errno) -> TreeError {
    match error {
        // The last two: a link, or a file, where a folder should be.
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NAMETOOLONG => TreeError::Missing,
        error => TreeError::Io(error.into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// A rootfs whose registry has `hello` with one manifest and one blob, and a nested repository.
    pub(crate) struct Sample {
        pub(crate) folder: tempfile::TempDir,
        pub(crate) manifest: Digest,
        pub(crate) index: Digest,
        pub(crate) blob: Digest,
    }

    pub(crate) const BLOB: &[u8] = b"0123456789";

    impl Sample {
        pub(crate) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let blob = Digest::of(BLOB);
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"digest":"{blob}"}}}}"#
            );
            let digest = Digest::of(manifest.as_bytes());
            let index = format!(
                r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#
            );
            let sample = Self {
                manifest: digest,
                index: Digest::of(index.as_bytes()),
                blob,
                folder,
            };
            let root = sample.root();
            for (digest, bytes) in [
                (sample.manifest, manifest.as_bytes()),
                (sample.index, index.as_bytes()),
                (sample.blob, BLOB),
            ] {
                let hex = digest.hex();
                write(
                    &root.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])),
                    bytes,
                );
            }
            for repository in ["hello", "hello-more", "library/nested/deep"] {
                let at = root.join("repositories").join(repository);
                let link = |path: String, digest: &Digest| {
                    write(&at.join(path).join("link"), digest.to_string().as_bytes());
                };
                for manifest in [sample.manifest, sample.index] {
                    link(
                        format!("_manifests/revisions/sha256/{}", manifest.hex()),
                        &manifest,
                    );
                }
                for (tag, manifest) in [
                    ("1.0", sample.manifest),
                    ("all", sample.index),
                    ("latest", sample.manifest),
                ] {
                    link(format!("_manifests/tags/{tag}/current"), &manifest);
                }
                link(format!("_layers/sha256/{}", sample.blob.hex()), &sample.blob);
            }
            sample
        }

        /// One more tag, and the manifest it leads to, of a repository.
        pub(crate) fn tag(&self, repository: &str, tag: &str, manifest: &Digest) {
            let at = self
                .root()
                .join("repositories")
                .join(repository)
                .join("_manifests");
            for link in [
                format!("tags/{tag}/current/link"),
                format!("revisions/sha256/{}/link", manifest.hex()),
            ] {
                write(&at.join(link), manifest.to_string().as_bytes());
            }
        }

        pub(crate) fn root(&self) -> PathBuf {
            ROOT.iter()
                .fold(self.folder.path().to_owned(), |path, name| path.join(name))
        }

        pub(crate) fn tree(&self) -> Tree {
            Tree::new(self.folder.path().to_owned())
        }
    }

    fn write(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_repository_has_its_own_and_nothing_of_others() {
        let sample = Sample::new();
        let tree = sample.tree();
        assert_eq!(tree.tagged("hello", "1.0").unwrap(), sample.manifest);
        assert_eq!(
            tree.tags("library/nested/deep").unwrap(),
            ["1.0", "all", "latest"]
        );
        assert_eq!(tree.blob("hello", &sample.blob).unwrap().1, BLOB.len() as u64);
        let nothing = |result: Result<(File, u64), TreeError>| matches!(result, Err(TreeError::Missing));
        assert!(nothing(tree.blob("other", &sample.blob)));
        assert!(
            nothing(tree.blob("hello", &sample.manifest)),
            "it is no layer of the repository"
        );
    }

    #[test]
    fn no_link_is_followed_wherever_it_leads() {
        let sample = Sample::new();
        let root = sample.root();
        let secret = sample.folder.path().join("secret");
        write(&secret.join("link"), sample.manifest.to_string().as_bytes());
        let tag = root.join("repositories/hello/_manifests/tags/secret");
        fs::create_dir(&tag).unwrap();
        symlink(&secret, tag.join("current")).unwrap();
        symlink(root.join("repositories/hello"), root.join("repositories/linked")).unwrap();
        let tree = sample.tree();
        assert!(matches!(tree.tagged("hello", "secret"), Err(TreeError::Missing)));
        assert!(matches!(tree.tags("linked"), Err(TreeError::Missing)));
        let hex = sample.blob.hex();
        let data = root.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
        fs::remove_file(&data).unwrap();
        symlink("/etc/passwd", &data).unwrap();
        assert!(matches!(
            tree.blob("hello", &sample.blob),
            Err(TreeError::Missing)
        ));
    }

    #[test]
    fn a_rootfs_that_is_not_there_is_another_matter_than_a_missing_image() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::new(folder.path().join("rootfs"));
        assert!(matches!(tree.tags("hello"), Err(TreeError::NoTree)));
        symlink("/", folder.path().join("registry")).unwrap();
        assert!(matches!(
            Tree::new(folder.path().to_owned()).tags("hello"),
            Err(TreeError::NoTree)
        ));
    }
}
