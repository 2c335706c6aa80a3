//! Scripts of the rootfs, run as transient systemd units that outlive the agent.
//!
//! ```text
//! ScriptSpec ─▶ command: program, words, environment (pure) ─▶ proof: the file is the image's
//!            ─▶ unit: systemd-run gantry-step-<id>.service ─▶ watch: until it ended, however often the agent restarts
//!                       └── stdout, stderr: files under agent/steps/<id>/ ── output: lines, as they come
//!                                           └── kept: no more of them than a bound
//! ```

mod application_programs;
mod command;
mod environment;
mod image_application;
mod image_command;
mod image_plugin;
mod kept;
mod output;
mod proof;
mod shell_command;
mod unit;
mod watch;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gantry_model::{Digest, ScriptOutcome, StepId};
use gantry_store::Store;
use gantry_system::files;
use gantry_system::processes::ProcessError;
use tokio_util::sync::CancellationToken;

pub(crate) use command::{BASH, Program, SecretFile, check_environment};
pub use command::{BadScript, check};
pub(crate) use image_application::{LaunchSite, check_launch, launch_program};
pub(crate) use image_command::image_command;
pub(crate) use image_plugin::{check_image_plugin, image_plugin};
pub use output::{LineSplitter, OutputLine, StepOutput};
pub use proof::ProofError;
pub(crate) use proof::is_shell_script;
pub(crate) use shell_command::{check_shell_command, shell_command};
pub use unit::{UnitState, unit_name};

/// In a step's folder while its unit starts: the environment, which may hold secrets.
const ENVIRONMENT: &str = "environment";

/// In a step's folder while its program runs: what it is told and nobody else may read.
pub(crate) const SECRET: &str = "secret";

/// Why a script could not be run or watched.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// What is asked for cannot be run.
    #[error(transparent)]
    Bad(#[from] BadScript),
    /// The file is not the image's.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The file system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// systemd took the unit and could not start the script.
    #[error("{unit} did not start: systemd says {result}; see journalctl -u {unit}")]
    NotStarted {
        /// The unit.
        unit: String,
        /// systemd's word for it.
        result: String,
    },
    /// systemd did not do what it was told.
    #[error("systemd does not run {unit}: {source}")]
    Systemd {
        /// The unit.
        unit: String,
        /// What its tool said.
        source: ProcessError,
    },
}

impl ScriptError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Runs scripts and keeps what they wrote.
#[derive(Debug, Clone)]
pub struct Scripts {
    steps: PathBuf,
}

impl Scripts {
    /// Scripts whose outputs are kept below `steps`.
    #[must_use]
    pub fn new(steps: &Path) -> Self {
        Self {
            steps: steps.to_owned(),
        }
    }

    /// The outputs of a step.
    #[must_use]
    pub fn output(&self, id: StepId) -> StepOutput {
        StepOutput::new(&self.folder(id))
    }

    /// Starts a program of the rootfs at `rootfs`, whose layers are `layers` (bottom first). It goes on whatever
    /// happens to this process; [`Self::watch`] tells how it ends.
    ///
    /// # Errors
    /// When it is not a file of the layers as they are, or systemd does not start it.
    pub(crate) async fn start(
        &self,
        id: StepId,
        program: &Program,
        rootfs: &Path,
        store: &Store,
        layers: &[Digest],
    ) -> Result<(), ScriptError> {
        self.make_ready(program.file.clone(), rootfs, store, layers)
            .await?;
        unit::discard(id).await.map_err(|source| systemd(id, source))?;
        let folder = self.make_folder(id)?;
        let environment = folder.join(ENVIRONMENT);
        files::write_atomically(&environment, &environment::to_file(&program.command.env), 0o600)
            .map_err(ScriptError::io("write", &environment))?;
        if let Some(secret) = &program.secret {
            files::write_atomically(&secret.path, secret.content.as_bytes(), 0o600)
                .map_err(ScriptError::io("write", &secret.path))?;
        }
        let started = unit::start(id, program, &folder, &environment).await;
        // systemd has read it by now; it may hold secrets.
        let removed = fs::remove_file(&environment).map_err(ScriptError::io("remove", &environment));
        started.map_err(|source| systemd(id, source)).and(removed)
    }

    /// Proves the file that is to be run, and makes scripts of the rootfs executable: on a thread that may wait for the disk.
    async fn make_ready(
        &self,
        file: Option<String>,
        rootfs: &Path,
        store: &Store,
        layers: &[Digest],
    ) -> Result<(), ScriptError> {
        if let Some(file) = file {
            self.prove(store, layers, rootfs, &file).await?;
        }
        let rootfs = rootfs.to_owned();
        let made = tokio::task::spawn_blocking(move || make_scripts_executable(&rootfs));
        made.await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Proves that the file at `path` below `rootfs` is the one of `layers` (bottom first).
    ///
    /// # Errors
    /// When it is another one, or there is none.
    pub(crate) async fn prove(
        &self,
        store: &Store,
        layers: &[Digest],
        rootfs: &Path,
        path: &str,
    ) -> Result<(), ProofError> {
        let (store, layers) = (store.clone(), layers.to_vec());
        let (rootfs, path) = (rootfs.to_owned(), path.to_owned());
        // Programs are large: comparing them takes a thread that may wait.
        let proved = tokio::task::spawn_blocking(move || proof::prove(&store, &layers, &rootfs, &path));
        proved
            .await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }

    /// Waits until the script's unit ended, or ends it when `cancel` is cancelled. A unit that is not there gives
    /// [`ScriptOutcome::Unknown`].
    ///
    /// # Errors
    /// When systemd could not start the script, or does not answer for a long time.
    pub async fn watch(&self, id: StepId, cancel: &CancellationToken) -> Result<ScriptOutcome, ScriptError> {
        let folder = self.folder(id);
        let trimming = async {
            loop {
                tokio::time::sleep(kept::TRIM_EVERY).await;
                kept::trim(&folder);
            }
        };
        let ended = tokio::select! {
            ended = watch::watch(id, cancel) => ended,
            () = trimming => unreachable!("it goes on until the script ended"),
        };
        kept::trim(&folder);
        self.remove(id, SECRET);
        ended
    }

    /// Removes the environment of a script that an agent started and could not tidy up after.
    pub fn remove_environment(&self, id: StepId) {
        self.remove(id, ENVIRONMENT);
    }

    fn remove(&self, id: StepId, name: &str) {
        let path = self.folder(id).join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(step = %id.short(), "cannot remove {}: {error}", path.display());
            }
            _ => {}
        }
    }

    /// Lets systemd forget the unit of a script that ended and whose outcome is recorded. Processes the script
    /// left running keep it.
    pub async fn release(&self, id: StepId) {
        if let Err(error) = unit::release(id).await {
            tracing::warn!(step = %id.short(), "cannot release {}: {error}", unit_name(id));
        }
    }

    /// Removes what a step wrote.
    pub fn remove_output(&self, id: StepId) {
        let folder = self.folder(id);
        if let Err(error) = files::remove_tree(&folder) {
            tracing::warn!(step = %id.short(), "{error}");
        }
    }

    /// Where a step's outputs and secrets are.
    pub(crate) fn folder(&self, id: StepId) -> PathBuf {
        self.steps.join(id.to_string())
    }

    /// An empty folder for the outputs: what an earlier attempt wrote goes.
    fn make_folder(&self, id: StepId) -> Result<PathBuf, ScriptError> {
        let folder = self.folder(id);
        files::remove_tree(&folder).map_err(ScriptError::io("empty", &folder))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(ScriptError::io("make", &folder))?;
        Ok(folder)
    }
}

fn systemd(id: StepId, source: ProcessError) -> ScriptError {
    ScriptError::Systemd {
        unit: unit_name(id),
        source,
    }
}

/// What sealer does before it runs any script: `chmod +x scripts/*`. Scripts call each other by name.
fn make_scripts_executable(rootfs: &Path) -> Result<(), ScriptError> {
    let folder = rootfs.join("scripts");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(ScriptError::io("read", &folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(ScriptError::io("read", &folder))?;
        let path = entry.path();
        // Of the link itself: what a link leads to may lie outside.
        let meta = entry.metadata().map_err(ScriptError::io("look at", &path))?;
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_file() && mode & 0o111 != 0o111 {
            fs::set_permissions(&path, Permissions::from_mode(mode | 0o111))
                .map_err(ScriptError::io("make executable", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_become_executable_and_links_are_left_alone() {
        let rootfs = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let scripts = rootfs.path().join("scripts");
        make_scripts_executable(rootfs.path()).unwrap();
        fs::create_dir(&scripts).unwrap();
        fs::write(scripts.join("init.sh"), "").unwrap();
        fs::set_permissions(scripts.join("init.sh"), Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(outside.path(), scripts.join("link.sh")).unwrap();
        make_scripts_executable(rootfs.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&scripts.join("init.sh")), 0o751);
        assert_eq!(mode(outside.path()), 0o600);
    }
}
