//! Small trees in the shape of a cluster's rootfs, for tests that need an image with scripts of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder with a Kubefile and what it copies.
#[derive(Debug)]
pub struct ImageTree {
    folder: PathBuf,
}

impl ImageTree {
    /// An empty image context at `folder`: `FROM scratch`, `COPY . .`, and the `Metadata` every image has.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn at(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let tree = Self {
            folder: folder.to_owned(),
        };
        tree.file("Kubefile", "FROM scratch\nCOPY . .\n")?
            .file("Metadata", "{\"version\":\"v1.20.2\",\"arch\":\"amd64\"}\n")
    }

    /// The usual small image: each script of the contract notes that it ran, with its arguments, in
    /// `/var/log/scripts` of its host.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn with_scripts(folder: &Path) -> Result<Self> {
        Self::at(folder)?
            .script(
                "init.sh",
                &format!("{}bash docker.sh \"$@\" && bash init-kube.sh\n", note("init.sh")),
            )?
            .script("docker.sh", &note("docker.sh"))?
            .script("init-kube.sh", &note("init-kube.sh"))?
            .script("init-registry.sh", &note("init-registry.sh"))?
            .script("clean.sh", &note("clean.sh"))?
            .file("etc/daemon.json", "{}\n")
    }

    /// The context's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a file, with the folders it is in.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Result<Self> {
        let target = self.folder.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
        Ok(self)
    }

    /// Adds `scripts/NAME`, executable. `body` follows the interpreter line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn script(self, name: &str, body: &str) -> Result<Self> {
        let path = format!("scripts/{name}");
        let tree = self.file(&path, format!("#!/bin/bash\n{body}"))?;
        fs::set_permissions(tree.folder.join(&path), fs::Permissions::from_mode(0o755))?;
        Ok(tree)
    }

    /// Adds a file of `size` bytes that no compression makes smaller, the same for the same `seed`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn incompressible(self, path: &str, size: usize, seed: u64) -> Result<Self> {
        self.file(path, noise(size, seed))
    }
}

/// A script line that notes that it ran.
#[must_use]
pub fn note(script: &str) -> String {
    format!("echo \"{script} says hello from $(hostname)\"\necho \"{script} $*\" >>/var/log/scripts\n")
}

/// Bytes without a pattern, the same for the same `seed` (xorshift64*).
#[must_use]
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
