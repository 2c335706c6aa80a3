//! This module owns [`Context`]: what every command needs to know about how `gantry` was called.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gantry_model::ExitCode;

use crate::cli::GlobalArgs;
use crate::exit::failure;

/// Where everything lies when root runs `gantry` and `--root` is not given.
pub const SYSTEM_ROOT: &str = "/var/lib/gantry";

/// How `gantry` was called.
#[derive(Debug, Clone)]
pub struct Context {
    root: PathBuf,
    identity: Option<PathBuf>,
    signature_policy: PathBuf,
}

impl Context {
    /// The context that these flags ask for.
    ///
    /// # Errors
    /// When an ordinary user has no home folder and gave no `--root`.
    pub fn new(global: &GlobalArgs) -> anyhow::Result<Self> {
        let root = match &global.root {
            Some(root) => std::path::absolute(root).context("cannot find the current folder")?,
            None => default_root()?,
        };
        Ok(Self {
            root,
            identity: global.identity.clone(),
            signature_policy: global.signature_policy.clone(),
        })
    }

    /// The folder of the store and of the orchestrator's state.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that says which images are accepted.
    #[must_use]
    pub fn signature_policy(&self) -> &Path {
        &self.signature_policy
    }

    /// The folder of the identity to use instead of the one of this orchestrator.
    #[must_use]
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }
}

/// `/var/lib/gantry` for root, `$XDG_DATA_HOME/gantry` for anybody else.
fn default_root() -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(SYSTEM_ROOT.into());
    }
    use etcetera::BaseStrategy as _;
    let home = etcetera::choose_base_strategy().map_err(|_| {
        failure(
            ExitCode::Input,
            "there is no home folder for the image store; give one with --root",
        )
    })?;
    Ok(home.data_dir().join("gantry"))
}
