//! Rendering in a process of its own: a chart is a program that somebody else wrote, and may need any time, memory or depth. What
//! it may have are limits of the process; a chart that breaks them ends that process and nothing else.

use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gantry_model::ExitCode;
use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use super::{Chart, Rendered, render};

/// The hidden command that starts the process.
const COMMAND: &str = "render-chart";
/// Address space of the process, in bytes.
const MAX_MEMORY: u64 = 1 << 30;
/// Seconds of CPU time.
const MAX_SECONDS: u64 = 20;
/// Bytes of what it answers.
const MAX_ANSWER_LEN: u64 = 128 << 20;

/// What is rendered: files by their paths in the chart, or a packed chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChartSource {
    /// The files of a folder.
    Files(BTreeMap<String, Vec<u8>>),
    /// A `.tgz`.
    Packed(Vec<u8>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    kubernetes: Option<String>,
    files: BTreeMap<String, String>,
    packed: Option<String>,
}

/// What the templates of a chart make of its own values, for a cluster of this version of Kubernetes.
///
/// # Errors
/// When it is no chart, or needs more than a chart may have.
pub fn render_apart(source: ChartSource, kubernetes: Option<&str>) -> Result<Vec<Rendered>, String> {
    let (files, packed) = match source {
        ChartSource::Files(files) => (files, None),
        ChartSource::Packed(bytes) => (BTreeMap::new(), Some(BASE64_STANDARD.encode(bytes))),
    };
    let files = files.into_iter();
    let request = Request {
        kubernetes: kubernetes.map(str::to_owned),
        files: files
            .map(|(path, bytes)| (path, BASE64_STANDARD.encode(bytes)))
            .collect(),
        packed,
    };
    let request = serde_json::to_vec(&request).expect("a request is plain data");
    let answer = exchange(&request).map_err(|error| format!("it cannot be rendered: {error}"))?;
    let answer: Option<Result<Vec<Rendered>, String>> = serde_json::from_slice(&answer).ok();
    answer.unwrap_or_else(|| {
        Err(format!(
            "it needs more than {MAX_SECONDS} s of CPU time or {} MiB of memory to be rendered",
            MAX_MEMORY >> 20
        ))
    })
}

fn exchange(request: &[u8]) -> io::Result<Vec<u8>> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("gantry")
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What a program says that runs out of memory is not for people.
        .stderr(Stdio::null())
        .spawn()?;
    let (mut input, output) = (
        child.stdin.take().expect("it is piped"),
        child.stdout.take().expect("it is piped"),
    );
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A process that is gone answers nothing: that is what counts.
            let _ = input.write_all(request);
        });
        output.take(MAX_ANSWER_LEN).read_to_end(&mut answer)
    })?;
    // One that says more than it may waits for its reader.
    let _ = child.kill();
    child.wait()?;
    Ok(answer)
}

/// Runs the hidden command: limits this process, reads a request, answers.
///
/// # Errors
/// When the request cannot be read or the answer not written.
pub fn run() -> anyhow::Result<ExitCode> {
    setrlimit(Resource::RLIMIT_AS, MAX_MEMORY, MAX_MEMORY)?;
    setrlimit(Resource::RLIMIT_CPU, MAX_SECONDS, MAX_SECONDS)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let request: Request = serde_json::from_slice(&bytes)?;
    let answer = answer(request);
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    out.flush()?;
    // Values that are nested deep end deep, too: there is nothing to give back.
    std::process::exit(0)
}

fn answer(request: Request) -> Result<Vec<Rendered>, String> {
    let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
    let chart = match request.packed {
        Some(packed) => Chart::unpack(&decode(&packed)?)?,
        None => {
            let files = request.files.iter();
            let files = files.map(|(path, text)| Ok((path.clone(), decode(text)?)));
            Chart::of(files.collect::<Result<_, String>>()?).map_err(|error| error.to_string())?
        }
    };
    Ok(render(&chart, request.kubernetes.as_deref()))
}
