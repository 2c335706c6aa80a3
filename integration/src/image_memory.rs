//! How much memory `gantry` takes for an image: the most that each command had, from build to unpacking.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{Finished, shown};
use crate::image_tree::noise;
use crate::registry::Registry;
use crate::{Operator, cache};

/// How often a running command is asked. The kernel keeps the most there was, so only what is taken in the very last moment of a
/// command is missed.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How much of a file is made at a time.
const BLOCK: u64 = 1 << 20;
/// Size of each of many files.
const SMALL: u64 = 64 << 10;
/// Files in a folder.
const FILES_IN_FOLDER: u64 = 256;

/// What an image is made of. No compression makes it smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One file.
    OneFile,
    /// Files of 64 KiB.
    ManyFiles,
}

/// The most resident memory a command had.
#[derive(Debug, Clone)]
pub struct Peak {
    /// What it did.
    pub command: &'static str,
    /// Bytes, its program's own pages included.
    pub bytes: u64,
}

/// What `gantry` took for an image of `size` bytes that it built in `folder`, and brought to `registry`, back and through archives.
///
/// # Errors
/// When a command fails; the message holds its outputs.
pub fn peaks(
    operator: &Operator,
    folder: &Path,
    registry: &Registry,
    content: Content,
    size: u64,
) -> Result<Vec<Peak>> {
    let desk = Desk::new(operator, folder)?;
    write_context(&desk.path("context"), content, size)?;
    let pushed = format!("{}/memory:{size}", registry.host());
    let steps = [
        ("build", "built", "build -t memory:v1 --build-mode lite context"),
        ("push", "built", &format!("push --insecure memory:v1 {pushed}")),
        ("pull", "pulled", &format!("pull --insecure {pushed}")),
        ("save", "built", "save -o image.tar memory:v1"),
        ("load", "loaded", "load image.tar"),
        ("unpack", "loaded", "inspect memory:v1"),
        (
            "save for docker",
            "built",
            "save --format docker-archive -o docker.tar memory:v1",
        ),
        ("load of docker's", "docker", "load docker.tar"),
    ];
    steps
        .iter()
        .map(|(command, root, words)| desk.measured(command, root, words))
        .collect()
}

/// The same of an image that umoci made, whose layer is gzip.
///
/// # Errors
/// Like [`peaks`].
pub fn peaks_of_gzip(
    operator: &Operator,
    folder: &Path,
    registry: &Registry,
    content: Content,
    size: u64,
) -> Result<Vec<Peak>> {
    let desk = Desk::new(operator, folder)?;
    write_context(&desk.path("context"), content, size)?;
    let pushed = format!("{}/memory:gzip-{size}", registry.host());
    let script = format!(
        "umoci init --layout gzip && umoci new --image gzip:v1 && umoci insert --image gzip:v1 context/data / && \
         skopeo copy --quiet --dest-tls-verify=false oci:gzip:v1 docker://{pushed}"
    );
    let mut shell = Command::new("sh");
    crate::command::run(shell.args(["-ec", &script]).current_dir(folder))?.ok()?;
    Ok(vec![
        desk.measured("load of gzip", "loaded", "load -t memory:v1 gzip")?,
        desk.measured("pull of gzip", "pulled", &format!("pull --insecure {pushed}"))?,
    ])
}

/// Where the commands run.
struct Desk<'a> {
    operator: &'a Operator,
    folder: &'a Path,
}

impl<'a> Desk<'a> {
    /// `folder`, emptied.
    fn new(operator: &'a Operator, folder: &'a Path) -> Result<Self> {
        cache::remove_tree(folder)?;
        fs::create_dir_all(folder)?;
        Ok(Self { operator, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Runs `gantry` with the store in `root` to its good end.
    fn measured(&self, command: &'static str, root: &str, words: &str) -> Result<Peak> {
        let errors = self.path("stderr");
        let mut gantry = Command::new(self.operator.program());
        gantry
            .args(["--root", root])
            .args(words.split(' '))
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?);
        let mut child = gantry.spawn().context("cannot start gantry")?;
        let mut bytes = 0;
        let status = loop {
            bytes = bytes.max(peak(&child).unwrap_or(0));
            match child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        let finished = Finished {
            command: shown(&gantry),
            status: status.code(),
            stdout: String::new(),
            stderr: fs::read_to_string(&errors)?,
        };
        finished.ok()?;
        Ok(Peak { command, bytes })
    }
}

/// The most resident memory of a process so far; none when it has ended.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// A folder to build from, with `size` bytes below `data`.
fn write_context(folder: &Path, content: Content, size: u64) -> Result<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    fs::write(folder.join("Kubefile"), "FROM scratch\nCOPY data .\n")?;
    if content == Content::OneFile {
        return write_noise(&data.join("file"), size, 1);
    }
    for number in 0..size / SMALL {
        let folder = data.join(format!("{}", number / FILES_IN_FOLDER));
        fs::create_dir_all(&folder)?;
        write_noise(&folder.join(format!("{number}")), SMALL, number + 1)?;
    }
    Ok(())
}

fn write_noise(path: &Path, size: u64, seed: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    for block in 0..size.div_ceil(BLOCK) {
        let length = usize::try_from(BLOCK.min(size - block * BLOCK))?;
        file.write_all(&noise(length, (seed << 32) + block))?;
    }
    Ok(())
}
