//! A rehearsal: the scripts of an image run on a host that has no network, and every name they ask for and every address they reach
//! for is listed. So what works in an office with internet, and would fail in a machine room, is known before it is shipped.
//!
//! ```text
//! gantry check ─ spec ─▶ outer process       namespaces: mounts, processes, network, IPC, names
//!                          └─▶ inner process   sandbox: this machine's /usr and /etc with a layer over them, the rootfs, else nothing
//!                                │             network: every address leads to `lo`; watch: packets there, and who asks the resolver
//!                                └─▶ scripts   bash tells the line that it runs (trace); stand_ins for systemctl and its like
//! ```
//!
//! Whatever is reached is refused at once, by the kernel: scripts go on as they would where a cable is missing. What a script
//! would have done after it failed is not known, and said so. Everything there is gone when the inner process ends.

mod calls;
mod child;
mod filter;
pub mod names;
mod network;
pub mod packet;
mod prepare;
mod process;
mod resolver;
mod sandbox;
mod script;
mod stand_ins;
mod trace;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow};
use gantry_model::ExitCode;
use gantry_store::Store;
use serde::{Deserialize, Serialize};

use crate::build::run::scratch;
use crate::confinement::bounds::Bounds;
use crate::confinement::{ControlGroup, GroupFolders};
use crate::exit::{OrExit as _, failure};
use crate::report::printable;

pub use child::run_child;
pub use prepare::{Prepared, host_address, prepare};
pub use trace::Line;

/// What bash reads before every script, in the sandbox.
const BASH_ENV: &str = "/run/gantry-rehearsal/bash";
/// Most bytes of an outcome.
const MAX_OUTCOME_LEN: u64 = 4 << 20;

/// What the child processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RehearsalSpec {
    /// For what scripts write; on a disk that can be the upper side of an overlay.
    scratch: PathBuf,
    /// Layers of the image, the top one first.
    lower: Vec<PathBuf>,
    /// What is run, in order.
    calls: Vec<ScriptCall>,
    /// The environment of scripts.
    env: BTreeMap<String, String>,
    /// Files that are written into the rootfs: paths and texts.
    files: BTreeMap<String, String>,
    /// Names that the cluster itself provides.
    cluster_names: Vec<String>,
    /// The longest time that a script takes, in seconds.
    time_limit_s: u32,
    /// The most that scripts take together.
    bounds: Bounds,
    /// Where the kernel holds them to that.
    group: Option<GroupFolders>,
}

/// A call of bash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ScriptCall {
    /// The script's path in the rootfs, or what is run, for people.
    name: String,
    /// Arguments of bash.
    words: Vec<String>,
    /// The working directory.
    folder: PathBuf,
    /// Its own environment, over that of all scripts.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What runs by itself if this one fails before it runs it.
    follower: Option<Box<Self>>,
}

impl ScriptCall {
    fn file_name(&self) -> String {
        self.name.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// What came of a rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What ran, in order.
    pub scripts: Vec<Rehearsed>,
    /// What was asked for that a host without a network does not have.
    pub findings: Vec<Finding>,
    /// What is not known.
    pub doubts: Vec<Doubt>,
}

/// A script that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// Its path in the rootfs.
    pub name: String,
    /// Whether it ended with status 0, within its time.
    pub succeeded: bool,
}

/// Something that a script asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The script that was called.
    pub script: String,
    /// The line that ran, where bash said so.
    pub line: Option<Line>,
    /// The name of the process, where that is known.
    pub process: Option<String>,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What a script asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "what", content = "target", rename_all = "kebab-case")]
pub enum What {
    /// The address of a name.
    Resolves(String),
    /// A TCP connection to `NAME:PORT` or `ADDRESS:PORT`.
    Connects(String),
    /// A UDP datagram to `NAME:PORT` or `ADDRESS:PORT`.
    Sends(String),
    /// Whether somebody is there.
    Pings(String),
    /// That a container runtime fetches an image.
    Pulls(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolves(name) => write!(f, "resolves {name}"),
            Self::Connects(peer) => write!(f, "reaches {peer}"),
            Self::Sends(peer) => write!(f, "reaches {peer} (UDP)"),
            Self::Pings(peer) => write!(f, "pings {peer}"),
            Self::Pulls(image) => write!(f, "pulls {image}"),
        }
    }
}

/// Something that a rehearsal cannot tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The script.
    pub script: String,
    /// Why.
    pub reason: String,
}

impl Doubt {
    /// About `script`. Names and reasons may be those of somebody else: nothing in them controls a terminal.
    #[must_use]
    pub fn new(script: &str, reason: &str) -> Self {
        let lines: Vec<String> = reason.lines().map(|line| printable(line.as_bytes())).collect();
        Self {
            script: trace::shown(script),
            reason: lines.join(" "),
        }
    }
}

/// Rehearses what was prepared. Only root may, on a machine of the image's platform.
///
/// # Errors
/// When the sandbox cannot be made, or a layer not be unpacked.
pub fn rehearse(store: &Store, prepared: Prepared) -> anyhow::Result<Outcome> {
    let scratch = scratch(store)?;
    let mut lower = Vec::new();
    for layer in prepared.layers.iter().rev() {
        store
            .unpack_layer(layer)
            .map_err(|error| (error.exit_code(), error))
            .or_else(|(code, error)| Err(error).or_exit(code))
            .with_context(|| format!("cannot unpack layer {}", layer.digest))?;
        lower.push(store.layer_dir(&layer.digest));
    }
    if lower.is_empty() {
        let empty = scratch.path().join("empty");
        fs::create_dir(&empty).with_context(|| format!("cannot create {}", empty.display()))?;
        lower.push(empty);
    }
    let bounds = Bounds::of_rehearsals();
    let group = ControlGroup::make(bounds);
    let spec = RehearsalSpec {
        scratch: scratch.path().to_owned(),
        lower,
        calls: prepared.calls,
        env: prepared.env,
        files: prepared.files,
        cluster_names: prepared.cluster_names,
        time_limit_s: prepared.time_limit_s,
        bounds,
        group: group.as_ref().map(ControlGroup::folders),
    };
    let spec_file = scratch.path().join("spec.json");
    fs::write(&spec_file, serde_json::to_vec(&spec)?)
        .with_context(|| format!("cannot write {}", spec_file.display()))?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("gantry")
        .arg(child::COMMAND)
        .arg(&spec_file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the process that rehearses")?;
    let mut answer = Vec::new();
    let out = child.stdout.take().expect("it is piped");
    let read = out.take(MAX_OUTCOME_LEN).read_to_end(&mut answer);
    child
        .wait()
        .context("cannot wait for the process that rehearses")?;
    read.context("cannot read the outcome of the rehearsal")?;
    let answer: Result<Outcome, String> = serde_json::from_slice(&answer)
        .map_err(|_| failure(ExitCode::Failed, "the rehearsal was ended before it was over"))?;
    let mut outcome = answer
        .map_err(|reason| anyhow!("cannot make the host to rehearse on: {reason}"))
        .or_exit(ExitCode::Failed)?;
    outcome.doubts.splice(0..0, prepared.doubts);
    Ok(outcome)
}
