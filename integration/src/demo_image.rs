//! The demonstration's image context: docker, a registry and one application, made from Debian packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use gantry_model::Digest;

use crate::{apt, cache, command};

/// What its programs come from.
pub(crate) const PACKAGES: &[&str] = &[
    "busybox-static",
    "conntrack",
    "containerd",
    "docker-registry",
    "docker.io",
    "libdevmapper1.02.1",
    "libseccomp2",
    "runc",
    "tini",
];

/// The context folder, put together once by `images/demo/assemble.sh` and cached.
///
/// # Errors
/// When a package cannot be had, or the recipe fails; the message holds its output.
pub fn demo_image() -> Result<PathBuf> {
    let packages = apt::unpacked("demo-packages", PACKAGES)?;
    let key = recipe_key(&["parts.sh", "demo"])?;
    cache::made_once(&format!("demo-image-{key}"), |context| {
        command::run(
            Command::new(recipes().join("demo/assemble.sh"))
                .arg(&packages)
                .arg(context),
        )?
        .ok()
        .map(drop)
    })
}

/// The folder all recipes of images are in.
pub(crate) fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("images")
}

/// Stands for everything these files and folders of a recipe say, so that a changed recipe is another image.
pub(crate) fn recipe_key(parts: &[&str]) -> Result<String> {
    let mut paths = Vec::new();
    for part in parts {
        files_below(&recipes().join(part), &mut paths)?;
    }
    paths.sort();
    let mut bytes = Vec::new();
    for path in paths {
        let name = path
            .strip_prefix(recipes())
            .context("a recipe is among the recipes")?;
        bytes.extend_from_slice(name.to_string_lossy().as_bytes());
        bytes.extend(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(Digest::of(&bytes).hex()[..12].to_owned())
}

fn files_below(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            files_below(&entry?.path(), found)?;
        }
    } else {
        found.push(path.to_owned());
    }
    Ok(())
}
