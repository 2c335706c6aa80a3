//! The demonstration's image context: docker, a registry and one application, made from Debian packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use gantry_model::Digest;

use crate::{apt, cache, command};

/// What its programs come from.
const PACKAGES: &[&str] = &[
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
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/demo");
    let packages = apt::unpacked("demo-packages", PACKAGES)?;
    let key = Digest::of(&recipe_bytes(&recipe)?).hex();
    cache::made_once(&format!("demo-image-{}", &key[..12]), |context| {
        command::run(
            Command::new(recipe.join("assemble.sh"))
                .arg(&packages)
                .arg(context),
        )?
        .ok()
        .map(drop)
    })
}

/// Everything the recipe says, so that a changed recipe is another image.
fn recipe_bytes(folder: &Path) -> Result<Vec<u8>> {
    let mut paths = Vec::new();
    files_below(folder, &mut paths)?;
    paths.sort();
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend_from_slice(path.to_string_lossy().as_bytes());
        bytes.extend(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(bytes)
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
