//! This module owns [`Hostnames`]: the name that a cluster gives this host, and the one that the host had before.
//!
//! What was before is written down before anything changes, beside the name that was set: who gives the old name back must
//! not take away one that somebody else has set meanwhile.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gantry_model::ClusterName;
use gantry_system::files;
use serde::{Deserialize, Serialize};
use sysinfo::System;

use crate::kubeadm;

/// Longest name that the kernel takes, in bytes (`HOST_NAME_MAX` of Linux).
const MAX_LEN: usize = 64;
/// Mode of a file that was not there: everybody may read it.
const MODE: u32 = 0o644;

/// Why the name cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostnameError {
    /// The file system said no.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel said no.
    #[error("the kernel does not take {name} as this host's name: {source}")]
    Kernel {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The host is a node under another name.
    #[error(
        "this host is a node of a Kubernetes cluster by the name {present}, and nodes are not renamed; \
         take it out of its cluster first, or leave it its name"
    )]
    Node {
        /// Its name.
        present: String,
    },
    /// What was written down about the old name is damaged.
    #[error("{} is damaged: {source}; set the host's name with hostnamectl and remove this file", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What was set, and what was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The name that was set.
    name: String,
    /// The text of the file before; none: there was no file.
    file: Option<String>,
    /// The kernel's name before.
    kernel: String,
}

/// Where the kernel keeps its name.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    name: fn() -> String,
    set: fn(&str) -> io::Result<()>,
}

/// The names that clusters give this host.
#[derive(Debug, Clone)]
pub(crate) struct Hostnames {
    folder: PathBuf,
    file: PathBuf,
    kernel: Kernel,
}

/// Whether `name` can be the name of a host that becomes a node.
///
/// # Errors
/// When it cannot.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if name.len() > MAX_LEN {
        return Err(format!("a host's name has at most {MAX_LEN} characters"));
    }
    kubeadm::check_node(name)
}

impl Hostnames {
    /// The names of this host, whose file is `file`; what was before is kept in `folder`.
    pub(crate) fn new(folder: &Path, file: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            file: file.to_owned(),
            kernel: Kernel {
                name: || System::host_name().unwrap_or_default(),
                set: |name| Ok(rustix::system::sethostname(name.as_bytes())?),
            },
        }
    }

    /// Gives this host the name `name`, now and after the next boot.
    ///
    /// # Errors
    /// When it is a node under another name, or the name cannot be set.
    pub(crate) fn set(&self, cluster: &ClusterName, name: &str) -> Result<(), HostnameError> {
        let present = (self.kernel.name)();
        if present != name && !kubeadm::traces().is_empty() {
            return Err(HostnameError::Node { present });
        }
        let kept = match self.kept(cluster)? {
            Some(kept) => Kept {
                name: name.to_owned(),
                ..kept
            },
            None => Kept {
                name: name.to_owned(),
                file: self.read()?,
                kernel: present,
            },
        };
        let path = self.path(cluster);
        let text = serde_json::to_vec(&kept).map_err(|source| HostnameError::Damaged {
            path: path.clone(),
            source,
        })?;
        fs::create_dir_all(&self.folder)
            .and_then(|()| files::write_atomically(&path, &text, 0o600))
            .map_err(failed("write", &path))?;
        self.write(&format!("{name}\n"))?;
        self.set_in_kernel(name)
    }

    /// Whether this host has the name `name`, now and after the next boot.
    pub(crate) fn is(&self, name: &str) -> bool {
        let file = self.read().ok().flatten();
        (self.kernel.name)() == name && file.is_some_and(|text| text.trim() == name)
    }

    /// What differs from the name that `cluster` gave.
    ///
    /// # Errors
    /// When what was set is not known any more.
    pub(crate) fn drift(&self, cluster: &ClusterName) -> Result<Option<String>, HostnameError> {
        let kept = self.kept(cluster)?.filter(|kept| !self.is(&kept.name));
        Ok(kept.map(|kept| format!("the host's name is not {} any more", kept.name)))
    }

    /// Gives back what was before `cluster` gave a name, where nobody has set another one since.
    ///
    /// # Errors
    /// When it cannot be set; it is tried again then.
    pub(crate) fn restore(&self, cluster: &ClusterName) -> Result<(), HostnameError> {
        let Some(kept) = self.kept(cluster)? else {
            return Ok(());
        };
        if self.read()?.is_some_and(|text| text.trim() == kept.name) {
            match &kept.file {
                Some(text) => self.write(text)?,
                None => fs::remove_file(&self.file).map_err(failed("remove", &self.file))?,
            }
        }
        if (self.kernel.name)() == kept.name {
            self.set_in_kernel(&kept.kernel)?;
        }
        let path = self.path(cluster);
        fs::remove_file(&path)
            .and_then(|()| files::sync_dir(&self.folder))
            .map_err(failed("remove", &path))
    }

    /// Whether nothing is to be given back.
    pub(crate) fn is_restored(&self, cluster: &ClusterName) -> bool {
        !self.path(cluster).exists()
    }

    fn path(&self, cluster: &ClusterName) -> PathBuf {
        self.folder.join(format!("{cluster}.json"))
    }

    fn kept(&self, cluster: &ClusterName) -> Result<Option<Kept>, HostnameError> {
        let path = self.path(cluster);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| HostnameError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("read", &path)(source)),
        }
    }

    fn read(&self) -> Result<Option<String>, HostnameError> {
        match fs::read_to_string(&self.file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed("read", &self.file)(source)),
        }
    }

    fn write(&self, text: &str) -> Result<(), HostnameError> {
        // What the file was before it is again, its mode too.
        let mode = fs::metadata(&self.file).map_or(MODE, |meta| meta.permissions().mode() & 0o7777);
        files::write_atomically(&self.file, text.as_bytes(), mode).map_err(failed("write", &self.file))
    }

    fn set_in_kernel(&self, name: &str) -> Result<(), HostnameError> {
        (self.kernel.set)(name).map_err(|source| HostnameError::Kernel {
            name: name.to_owned(),
            source,
        })
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostnameError {
    move |source| HostnameError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static NAME: RefCell<String> = RefCell::new("old".into());
    }

    fn hostnames(folder: &Path) -> Hostnames {
        Hostnames {
            kernel: Kernel {
                name: || NAME.with_borrow(Clone::clone),
                set: |name| {
                    NAME.set(name.to_owned());
                    Ok(())
                },
            },
            ..Hostnames::new(&folder.join("kept"), &folder.join("hostname"))
        }
    }

    fn demo() -> ClusterName {
        "demo".parse().unwrap()
    }

    #[test]
    fn the_name_that_was_before_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let names = hostnames(folder.path());
        let file = folder.path().join("hostname");
        fs::write(&file, "# ours\nold\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
        names.set(&demo(), "node1").unwrap();
        assert!(names.is("node1") && names.drift(&demo()).unwrap().is_none());
        names.set(&demo(), "node2").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "node2\n");
        (names.kernel.set)("other").unwrap();
        assert!(names.drift(&demo()).unwrap().unwrap().contains("node2"));
        (names.kernel.set)("node2").unwrap();
        names.restore(&demo()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "# ours\nold\n");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o604);
        assert_eq!((names.kernel.name)(), "old");
        assert!(names.is_restored(&demo()));
        names.restore(&demo()).unwrap();
    }

    #[test]
    fn a_name_that_somebody_else_has_set_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let names = hostnames(folder.path());
        let file = folder.path().join("hostname");
        names.set(&demo(), "node1").unwrap();
        fs::write(&file, "theirs\n").unwrap();
        (names.kernel.set)("theirs").unwrap();
        names.restore(&demo()).unwrap();
        assert!(names.is("theirs") && names.is_restored(&demo()));
    }

    #[test]
    fn a_file_that_was_not_there_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let names = hostnames(folder.path());
        names.set(&demo(), "node1").unwrap();
        names.restore(&demo()).unwrap();
        assert!(!folder.path().join("hostname").exists());
    }

    #[test]
    fn names_are_those_of_nodes() {
        check("node-1.example.test").unwrap();
        for odd in ["", "Node1", "my_host", "-a", &"a".repeat(MAX_LEN + 1)] {
            check(odd).unwrap_err();
        }
    }
}
