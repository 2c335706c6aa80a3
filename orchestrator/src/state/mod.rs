//! What the orchestrator keeps below `ROOT/orchestrator`. Secrets are readable by their owner only.
//!
//! ```text
//! pki/                     the CA, the key for images      operators/self/   this orchestrator's own identity
//! tokens.json              enrolment tokens, hashed        agents.json       enrolled hosts
//! clusters/NAME/           Clusterfile, plan.json, lock
//! ```

mod agents;
mod cluster;
mod identity;
mod image_key;
mod tokens;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gantry_model::ExitCode;
use gantry_system::files::write_atomically;
use gantry_transport::Authority;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{OrExit as _, failure_hint};

pub use agents::{AgentBook, AgentRecord};
pub use cluster::{ClusterLock, ClusterState, Rollback, known_clusters};
pub use identity::OWN_NAME;
pub use tokens::TokenFile;

/// Files only their owner reads.
const SECRET_MODE: u32 = 0o600;
const SECRET_DIR_MODE: u32 = 0o700;

/// The orchestrator's state on disk.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

impl State {
    /// The state below `root`. Nothing is made before it is needed.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            dir: root.join("orchestrator"),
        }
    }

    /// The CA, made now if there is none.
    ///
    /// # Errors
    /// When its files are damaged or cannot be written.
    pub fn authority_or_create(&self) -> anyhow::Result<Authority> {
        create_dir(&self.dir)?;
        let dir = self.pki_dir();
        create_dir(&dir)?;
        Authority::open_or_create(&dir).or_exit(ExitCode::Failed)
    }

    /// The CA.
    ///
    /// # Errors
    /// When there is none: no host was ever enrolled from here.
    pub fn authority(&self) -> anyhow::Result<Authority> {
        let hint =
            "the CA is made by `gantry token create`; on another machine use the one that enrolled the hosts";
        if !self.has_authority() {
            let message = "there is no CA here: no host was enrolled from this machine";
            return Err(failure_hint(ExitCode::Input, message, hint));
        }
        Authority::open(&self.pki_dir()).or_exit_hint(ExitCode::Input, hint)
    }

    /// Whether a CA was made here.
    #[must_use]
    pub fn has_authority(&self) -> bool {
        Authority::exists(&self.pki_dir())
    }

    fn pki_dir(&self) -> PathBuf {
        self.dir.join("pki")
    }
}

fn create_dir(dir: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(SECRET_DIR_MODE)
        .create(dir)
        .with_context(|| format!("cannot create {}", dir.display()))
        .or_exit(ExitCode::Failed)
}

/// Reads a JSON file; the default when there is none.
fn read_json<T: DeserializeOwned + Default>(path: &Path) -> anyhow::Result<T> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot read {}", path.display()))
                .or_exit(ExitCode::Failed);
        }
    };
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged", path.display()))
        .or_exit_hint(
            ExitCode::Failed,
            "put it back from a backup, or move it away and enrol the hosts again",
        )
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        create_dir(dir)?;
    }
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write_atomically(path, &text, SECRET_MODE)
        .with_context(|| format!("cannot write {}", path.display()))
        .or_exit(ExitCode::Failed)
}
