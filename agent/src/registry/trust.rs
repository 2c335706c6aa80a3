//! This module owns [`Trust`]: what makes the host's container runtimes trust the registry, and the ledger of it.
//!
//! ```text
//! /etc/docker/certs.d/NAME:PORT/ca.crt            docker: docs.docker.com/engine/security/certificates
//! /etc/containerd/certs.d/NAME:PORT/ca.crt
//!                                  /hosts.toml    containerd, where its config_path says so: docs/hosts.md of containerd
//! ```
//!
//! The ledger names every file and folder made here, and is written before any of them is: what is not in it is
//! somebody else's, is never overwritten and never removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gantry_system::files;
use serde::{Deserialize, Serialize};

/// Folders in which runtimes look for what belongs to one registry.
const DOCKER: &str = "docker/certs.d";
const CONTAINERD: &str = "containerd/certs.d";

/// Why runtimes do not trust the registry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// A file cannot be read, written or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file is there already and is not ours.
    #[error(
        "{} is there already and was not made by this agent, so it is left alone; remove it if nothing needs it, \
         or give the cluster's registry another name",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// What makes the host's container runtimes trust one registry.
#[derive(Debug)]
pub(super) struct Trust {
    /// `/etc`, where runtimes are configured.
    configuration: PathBuf,
    /// Where the ledger is.
    ledger: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Ledger {
    /// Outer ones first.
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Trust {
    /// Trust that is noted in the file `ledger`; runtimes are configured below `configuration`.
    pub(super) fn new(configuration: &Path, ledger: &Path) -> Self {
        Self {
            configuration: configuration.to_owned(),
            ledger: ledger.to_owned(),
        }
    }

    /// Whether runtimes trust `ca` for the registry called `name`, which is `HOST:PORT`.
    pub(super) fn is(&self, name: &str, ca: &str) -> bool {
        self.wanted(name, ca)
            .iter()
            .all(|(path, text)| fs::read_to_string(path).is_ok_and(|found| found == *text))
    }

    /// Makes runtimes trust `ca` for the registry called `name`, and for no other name it had before.
    ///
    /// # Errors
    /// When a file cannot be written, or is somebody else's.
    pub(super) fn set(&self, name: &str, ca: &str) -> Result<(), TrustError> {
        let wanted = self.wanted(name, ca);
        let mut ledger = self.read()?;
        let foreign = |path: &&PathBuf| path.exists() && !ledger.files.contains(path);
        if let Some(path) = wanted.iter().map(|(path, _)| path).find(foreign) {
            return Err(TrustError::Foreign { path: path.clone() });
        }
        let renamed = ledger
            .files
            .iter()
            .any(|file| !wanted.iter().any(|(path, _)| path == file));
        if renamed {
            self.remove()?;
            ledger = Ledger::default();
        }
        for (path, _) in &wanted {
            let missing = path.ancestors().skip(1).take_while(|folder| !folder.exists());
            let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
            missing.reverse();
            ledger.folders.extend(missing);
            ledger.files.push(path.clone());
        }
        ledger.folders.dedup();
        ledger.files.sort();
        ledger.files.dedup();
        self.write(&ledger)?;
        for (path, text) in &wanted {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(failed("make", folder))?;
            }
            files::write_atomically(path, text.as_bytes(), 0o644).map_err(failed("write", path))?;
        }
        Ok(())
    }

    /// Removes what was made, and folders made for it that nobody else uses by now.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(super) fn remove(&self) -> Result<(), TrustError> {
        let ledger = self.read()?;
        for path in &ledger.files {
            gone(fs::remove_file(path)).map_err(failed("remove", path))?;
        }
        for path in ledger.folders.iter().rev() {
            match fs::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => gone(removed).map_err(failed("remove", path))?,
            }
        }
        gone(fs::remove_file(&self.ledger)).map_err(failed("remove", &self.ledger))
    }

    fn wanted(&self, name: &str, ca: &str) -> [(PathBuf, String); 3] {
        let docker = self.configuration.join(DOCKER).join(name).join("ca.crt");
        let containerd = self.configuration.join(CONTAINERD).join(name);
        let (hosts, containerd) = (containerd.join("hosts.toml"), containerd.join("ca.crt"));
        // JSON's strings are TOML's.
        let path = serde_json::Value::from(containerd.to_string_lossy());
        let text = format!(
            "# Written by gantry-agent: this host serves the images of its cluster's rootfs.\n\
             server = \"https://{name}\"\n\
             \n\
             [host.\"https://{name}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = {path}\n"
        );
        [
            (docker, ca.to_owned()),
            (containerd, ca.to_owned()),
            (hosts, text),
        ]
    }

    fn read(&self) -> Result<Ledger, TrustError> {
        match fs::read(&self.ledger) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ledger::default()),
            read => read
                .and_then(|text| serde_json::from_slice(&text).map_err(io::Error::other))
                .map_err(failed("read", &self.ledger)),
        }
    }

    fn write(&self, ledger: &Ledger) -> Result<(), TrustError> {
        let text = serde_json::to_string_pretty(ledger).expect("a ledger is plain data") + "\n";
        files::write_atomically(&self.ledger, text.as_bytes(), 0o644).map_err(failed("write", &self.ledger))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TrustError {
    let path = path.to_owned();
    move |source| TrustError::Io { action, path, source }
}

/// That it is not there is what was wanted.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_below(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(all_below(&path));
            }
            found.push(path);
        }
        found
    }

    #[test]
    fn what_was_made_is_removed_and_nothing_else() {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trust = Trust::new(etc.path(), &state.path().join("ledger.json"));
        fs::create_dir(etc.path().join("docker")).unwrap();
        fs::write(etc.path().join("docker/daemon.json"), "{}").unwrap();
        let before = all_below(etc.path());

        trust.set("sea.hub:5000", "first").unwrap();
        trust.set("sea.hub:5000", "second").unwrap();
        assert!(trust.is("sea.hub:5000", "second") && !trust.is("sea.hub:5000", "first"));
        trust.set("other.hub:5000", "second").unwrap();
        assert!(!etc.path().join("docker/certs.d/sea.hub:5000").exists());
        // Somebody else's, in a folder that was made here.
        let theirs = etc.path().join("docker/certs.d/theirs");
        fs::create_dir(&theirs).unwrap();
        trust.remove().unwrap();
        assert!(theirs.exists());
        fs::remove_dir(&theirs).unwrap();
        fs::remove_dir(etc.path().join("docker/certs.d")).unwrap();
        assert_eq!(all_below(etc.path()), before);
        assert!(all_below(state.path()).is_empty());
        trust.remove().unwrap();
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let (etc, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trust = Trust::new(etc.path(), &state.path().join("ledger.json"));
        let theirs = etc.path().join("docker/certs.d/sea.hub:5000/ca.crt");
        fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        fs::write(&theirs, "theirs").unwrap();
        let error = trust.set("sea.hub:5000", "ours").unwrap_err().to_string();
        assert!(error.contains("docker/certs.d/sea.hub:5000/ca.crt"), "{error}");
        trust.remove().unwrap();
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
        assert!(!etc.path().join("containerd").exists());
    }
}
