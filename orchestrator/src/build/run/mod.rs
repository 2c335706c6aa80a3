//! RUN: a command of the Kubefile on this host, with the merged rootfs as its working directory.
//!
//! It finds this machine's programs and configuration, to read, and nothing else of it; what closes the sandbox is in
//! [`crate::confinement`]. Every mount is made inside the mount namespace: when the command ends, or anything above it is killed, all of
//! them are gone. What the command wrote is in the upper folder and becomes the layer.

mod child;
mod output;
mod sandbox;

pub use child::run_child;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gantry_model::{ExitCode, LayerDescriptor};
use gantry_store::{LayerOptions, Store, layer_from_tree};
use gantry_system::files::remove_tree;
use serde::{Deserialize, Serialize};

use crate::confinement::bounds::Bounds;
use crate::confinement::{ControlGroup, GroupFolders};
use crate::exit::{OrExit as _, failure};

/// Where the command finds the rootfs.
const ROOTFS: &str = "/run/gantry/rootfs";
/// Status of the child when the command could not be started at all.
const CANNOT_START: i32 = 125;
/// A user and group that own nothing.
const NOBODY: u32 = 65534;
/// In the scratch folder: what the command was ended for, if it took too much.
const EXCESS: &str = "excess";

/// Most bytes of an answer.
const MAX_ANSWER_LEN: u64 = 1 << 20;
/// Longest time that an answer takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the child processes have to know.
#[derive(Debug, Serialize, Deserialize)]
struct RunSpec {
    /// Layers so far, the top one first.
    lower: Vec<PathBuf>,
    /// Gets what the command writes.
    upper: PathBuf,
    /// For the kernel.
    work: PathBuf,
    /// Becomes the root.
    root: PathBuf,
    /// Gets what the command took too much of.
    excess: PathBuf,
    /// The most that it takes.
    bounds: Bounds,
    /// Where the kernel holds it to that.
    group: Option<GroupFolders>,
    /// Whether the host's network is there.
    network: bool,
    /// Whether nothing of the host is there, and the command runs as nobody.
    alone: bool,
    /// Program and arguments.
    arguments: Vec<String>,
    /// Its whole environment.
    env: BTreeMap<String, String>,
}

/// The folders of one RUN; removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Scratch {
    /// Creates a folder of this name in it.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Creates the empty file for what a command took too much of.
    fn excess_file(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join(EXCESS);
        fs::write(&path, "").with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Fails where the command took too much, and says what of.
    fn refuse_excess(&self, what: &str) -> anyhow::Result<()> {
        let path = self.0.join(EXCESS);
        let excess = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if excess.is_empty() {
            return Ok(());
        }
        Err(failure(ExitCode::Failed, format!("{what} was ended: {excess}")))
    }

    /// Writes down what the child processes have to know; gives the file.
    fn write(&self, spec: &RunSpec) -> anyhow::Result<PathBuf> {
        let file = self.0.join("spec.json");
        fs::write(&file, serde_json::to_vec(spec)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the store is opened next.
        let _ = remove_tree(&self.0);
    }
}

/// Runs `arguments` on top of `layers`, bottom first; gives the layer of what it wrote, or none if it wrote nothing.
///
/// # Errors
/// When the command fails, or the mounts or the layer cannot be made.
pub fn run(
    store: &Store,
    layers: &[LayerDescriptor],
    arguments: Vec<String>,
    mut env: BTreeMap<String, String>,
    network: bool,
    options: &LayerOptions,
    line: &mut dyn FnMut(&str),
) -> anyhow::Result<Option<LayerDescriptor>> {
    let scratch = scratch(store)?;
    let mut lower = Vec::new();
    for layer in layers.iter().rev() {
        store
            .unpack_layer(layer)
            .map_err(|error| (error.exit_code(), error))
            .or_else(|(code, error)| {
                Err(error)
                    .or_exit(code)
                    .with_context(|| format!("cannot unpack layer {}", layer.digest))
            })?;
        lower.push(store.layer_dir(&layer.digest));
    }
    if lower.is_empty() {
        lower.push(scratch.folder("empty")?);
    }
    add_defaults(&mut env, options.mtime);
    let upper = scratch.folder("upper")?;
    let bounds = Bounds::of_builds();
    let group = ControlGroup::make(bounds);
    let spec = RunSpec {
        lower,
        upper: upper.clone(),
        work: scratch.folder("work")?,
        root: scratch.folder("root")?,
        excess: scratch.excess_file()?,
        bounds,
        group: group.as_ref().map(ControlGroup::folders),
        network,
        alone: false,
        arguments,
        env,
    };
    let spec_file = scratch.write(&spec)?;
    execute(&spec_file, &scratch, line)?;
    let wrote_nothing = fs::read_dir(&upper).is_ok_and(|mut entries| entries.next().is_none());
    if wrote_nothing {
        return Ok(None);
    }
    let layer = layer_from_tree(store, &upper, options);
    layer
        .map(Some)
        .map_err(|error| (error.exit_code(), error))
        .or_else(|(code, error)| Err(error).or_exit(code))
}

/// Runs `arguments` as nobody, in a root that has only what `fill` puts into its folder, without any network; gives what it writes
/// to standard output.
///
/// # Errors
/// When the command fails, says more than [`MAX_ANSWER_LEN`] bytes, or takes longer than [`ANSWER_TIMEOUT`].
pub fn ask(
    store: &Store,
    fill: &mut dyn FnMut(&Path) -> anyhow::Result<()>,
    arguments: Vec<String>,
) -> anyhow::Result<String> {
    let scratch = scratch(store)?;
    let mut env = BTreeMap::new();
    add_defaults(&mut env, 0);
    let bounds = Bounds::of_builds();
    let group = ControlGroup::make(bounds);
    let spec = RunSpec {
        lower: vec![scratch.folder("empty")?],
        upper: scratch.folder("upper")?,
        work: scratch.folder("work")?,
        root: scratch.folder("root")?,
        excess: scratch.excess_file()?,
        bounds,
        group: group.as_ref().map(ControlGroup::folders),
        network: false,
        alone: true,
        arguments,
        env,
    };
    fill(&spec.upper)?;
    let spec_file = scratch.write(&spec)?;
    let mut child = start(&spec_file, Stdio::null())?;
    let out = child.stdout.take().expect("it is piped");
    // It ends with the process, whatever the process does.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.take(MAX_ANSWER_LEN + 1)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    });
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot wait for the command")? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().context("cannot end the command")?;
            child.wait().context("cannot wait for the command")?;
            return Err(failure(
                ExitCode::Failed,
                format!("it gave no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let bytes = reader
        .join()
        .expect("reading does not panic")
        .context("cannot read what it says")?;
    scratch.refuse_excess("it")?;
    match status.code() {
        Some(0) if bytes.len() as u64 > MAX_ANSWER_LEN => Err(failure(
            ExitCode::Failed,
            format!("it says more than {MAX_ANSWER_LEN} bytes"),
        )),
        Some(0) => String::from_utf8(bytes).context("what it says is not UTF-8"),
        Some(CANNOT_START) => Err(failure(ExitCode::Failed, "it cannot be started on this machine")),
        Some(code) => Err(failure(
            ExitCode::Failed,
            format!("it ended with exit status {code}"),
        )),
        None => Err(failure(ExitCode::Failed, "it was killed")),
    }
}

/// An empty folder in the store, for what runs in a sandbox.
pub(crate) fn scratch(store: &Store) -> anyhow::Result<Scratch> {
    let tmp = store.tmp_dir();
    let make = || -> io::Result<PathBuf> {
        fs::create_dir_all(&tmp)?;
        // What commands make there is for nobody else on this machine: it may run with the rights of its owner.
        let closed = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new()
            .prefix("run-")
            .permissions(closed)
            .tempdir_in(&tmp)?;
        Ok(folder.keep())
    };
    make()
        .map(Scratch)
        .with_context(|| format!("cannot create a folder in {}", tmp.display()))
}

/// Where programs are, unless the environment says where.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command sees nothing of who runs the build: same Kubefile, same environment.
fn add_defaults(env: &mut BTreeMap<String, String>, epoch: i64) {
    let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let path = format!("{path}:{ROOTFS}/bin");
    env.insert("PATH".to_owned(), path);
    for (name, value) in [
        ("HOME", "/tmp".to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("SOURCE_DATE_EPOCH", epoch.to_string()),
    ] {
        env.entry(name.to_owned()).or_insert(value);
    }
}

fn start(spec_file: &Path, errors: Stdio) -> anyhow::Result<Child> {
    Process::new("/proc/self/exe")
        .arg0("gantry")
        .arg(child::COMMAND)
        .arg(spec_file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("cannot start the process that runs RUN")
}

fn execute(spec_file: &Path, scratch: &Scratch, line: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let mut child = start(spec_file, Stdio::piped())?;
    let streams = (child.stdout.take(), child.stderr.take());
    output::forward(
        streams.0.expect("it is piped"),
        streams.1.expect("it is piped"),
        line,
    );
    let status = child.wait().context("cannot wait for RUN")?;
    scratch.refuse_excess("the RUN command")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(CANNOT_START) => Err(failure(ExitCode::Failed, "the RUN command could not be started")),
        Some(code) => Err(failure(
            ExitCode::Failed,
            format!("the RUN command ended with exit status {code}"),
        )),
        None => Err(failure(ExitCode::Failed, "the RUN command was killed")),
    }
}

use std::os::unix::process::CommandExt as _;
