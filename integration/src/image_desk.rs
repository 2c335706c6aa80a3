//! Somebody who works with images alone: the packaged `gantry`, and other tools beside it, in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{self, Finished};
use crate::packages::Packages;
use crate::tree_list::TREE_LIST;

/// A folder to work in. Nothing of this machine's configuration of registries is read.
#[derive(Debug)]
pub struct ImageDesk {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl ImageDesk {
    /// An empty one.
    ///
    /// # Errors
    /// When the package cannot be unpacked.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let package = folder.path().join("package");
        let packages = Packages::find()?;
        command::must(
            "dpkg-deb",
            ["-x".as_ref(), packages.gantry.as_os_str(), package.as_os_str()],
        )?;
        for name in ["home", "run", "etc"] {
            fs::create_dir(folder.path().join(name))?;
        }
        fs::write(folder.path().join("etc/registries.conf"), "")?;
        let program = package.join("usr/bin/gantry");
        Ok(Self { folder, program })
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `gantry` with these words, split at spaces, until it ends.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn gantry(&self, words: &str) -> Result<Finished> {
        self.gantry_in("root", words)
    }

    /// The same with the store of another name.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn gantry_in(&self, root: &str, words: &str) -> Result<Finished> {
        let mut gantry = Command::new(&self.program);
        gantry
            .args(words.split(' '))
            .env("GANTRY_ROOT", self.folder().join(root));
        command::run(self.at_home(&mut gantry))
    }

    /// Lays the layers of an image in the store `root` over each other in a folder of the desk, and gives its name. No layer of it
    /// takes anything away.
    ///
    /// # Errors
    /// When there is no such image, or it cannot be copied.
    pub fn merged(&self, root: &str, image: &str) -> Result<String> {
        let inspected = self.gantry_in(root, &format!("inspect {image} -o json"))?.ok()?;
        let document: serde_json::Value = serde_json::from_str(&inspected)?;
        let layers = document["layers"].as_array().into_iter().flatten();
        let folder = self.sh("mktemp --directory merged-XXXXXX")?.trim().to_owned();
        for path in layers.filter_map(|layer| layer["path"].as_str()) {
            self.sh(&format!("cp -a {path}/. {folder}/"))?;
        }
        Ok(folder)
    }

    /// Mounts an image of the store `root`, and lists its tree as [`TREE_LIST`] does.
    ///
    /// # Errors
    /// When there is no such image, or it cannot be mounted.
    pub fn tree(&self, root: &str, image: &str, platform: &str) -> Result<String> {
        let words = format!("mount --platform {platform} {image}");
        let mounted = self.gantry_in(root, &words)?.ok()?;
        let list = self.sh(&format!("cd {}\n{TREE_LIST}", mounted.trim()));
        self.gantry_in(root, &format!("umount {image}"))?.ok()?;
        list
    }

    /// Runs shell words that have to succeed; gives their output. They find `gantry`, with the same store.
    ///
    /// # Errors
    /// When they fail; the message holds their output.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]);
        command::run(self.at_home(&mut shell))?.ok()
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = |name: &str| self.folder().join(name);
        let programs = self.program.parent().expect("a program lies in a folder");
        let others = std::env::var("PATH").unwrap_or_default();
        if !command.get_envs().any(|(name, _)| name == "GANTRY_ROOT") {
            command.env("GANTRY_ROOT", path("root"));
        }
        command
            .current_dir(self.folder())
            .env("PATH", format!("{}:{others}", programs.display()))
            .env("HOME", path("home"))
            .env("XDG_RUNTIME_DIR", path("run"))
            .env("CONTAINERS_REGISTRIES_CONF", path("etc/registries.conf"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("DOCKER_CONFIG")
            .env_remove("REGISTRY_AUTH_FILE")
    }
}
