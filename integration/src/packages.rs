//! Where the packages under test are: those `make package` made.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The Debian packages of both programs.
#[derive(Debug, Clone)]
pub struct Packages {
    /// The orchestrator's.
    pub gantry: PathBuf,
    /// The agent's.
    pub agent: PathBuf,
}

impl Packages {
    /// Those in `$GANTRY_PACKAGES`, or in `packages/` of the target folder.
    ///
    /// # Errors
    /// When they are not there: tests never run on other binaries than the packaged ones.
    pub fn find() -> Result<Self> {
        let folder = match env::var_os("GANTRY_PACKAGES") {
            Some(folder) => PathBuf::from(folder),
            None => packages_folder()?,
        };
        Ok(Self {
            gantry: newest(&folder, "gantry_")?,
            agent: newest(&folder, "gantry-agent_")?,
        })
    }
}

/// Where `make package` puts them: in cargo's target folder, somewhere above the running program. That folder has no
/// mark of its own: cargo leaves one only where it made the folder itself.
fn packages_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("the running program has no path")?;
    let mut folders = program.ancestors().map(|folder| folder.join("packages"));
    folders.find(|folder| folder.is_dir()).with_context(|| {
        format!(
            "no packages above {}: run `make package` first",
            program.display()
        )
    })
}

fn newest(folder: &Path, start: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        })
        .collect();
    found.sort_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
    match found.pop() {
        Some(path) => Ok(path),
        None => bail!(
            "no {start}*.deb in {}: run `make package` first",
            folder.display()
        ),
    }
}
