//! Runs a command to its end within a time limit.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Most bytes of each output stream that are kept; the rest is read and dropped.
pub const MAX_OUTPUT: usize = 1 << 20;

/// How a command ended and what it wrote, each stream cut at [`MAX_OUTPUT`].
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The command.
        program: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It was stopped because it ran too long.
    #[error("{program} did not end within {limit:?} and was stopped")]
    TimedOut {
        /// The command.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It ended with another status than 0.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// The command.
        program: String,
        /// Its status.
        status: ExitStatus,
        /// What it wrote to standard error, trimmed.
        stderr: String,
    },
}

/// Runs `command` without standard input and waits for its end. A status other than 0 is not an error here.
///
/// # Errors
/// When it cannot be started or runs longer than `limit`; then it is killed.
pub async fn run(command: &mut Command, limit: Duration) -> Result<Output, ProcessError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let start = |source| ProcessError::Start {
        program: program.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let end = async {
        let (stdout, stderr) = tokio::try_join!(keep(stdout), keep(stderr))?;
        Ok(Output {
            status: child.wait().await?,
            stdout,
            stderr,
        })
    };
    match tokio::time::timeout(limit, end).await {
        Ok(output) => output.map_err(start),
        Err(_) => Err(ProcessError::TimedOut { program, limit }),
    }
}

/// Like [`run`], and a status other than 0 is an error that carries what the command wrote to standard error.
///
/// # Errors
/// As [`run`], and when the command fails.
pub async fn run_successfully(command: &mut Command, limit: Duration) -> Result<Output, ProcessError> {
    let output = run(command, limit).await?;
    if output.status.success() {
        return Ok(output);
    }
    Err(ProcessError::Failed {
        program: command.as_std().get_program().to_string_lossy().into_owned(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

async fn keep(stream: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream)
            .take(MAX_OUTPUT as u64)
            .read_to_end(&mut kept)
            .await?;
        // A command that is not read from blocks for ever.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn both_streams_and_the_status_come_back() {
        let output = run(
            &mut shell("echo out; echo err >&2; exit 3"),
            Duration::from_secs(20),
        )
        .await
        .unwrap();
        assert_eq!(
            (output.status.code(), &*output.stdout, &*output.stderr),
            (Some(3), &b"out\n"[..], &b"err\n"[..])
        );
    }

    #[tokio::test]
    async fn a_failure_says_what_the_command_said() {
        let error = run_successfully(
            &mut shell("echo no such unit >&2; exit 4"),
            Duration::from_secs(20),
        )
        .await;
        assert!(error.unwrap_err().to_string().contains("no such unit"));
    }

    #[tokio::test]
    async fn output_beyond_the_bound_is_dropped_and_does_not_block() {
        let output = run(&mut shell("head -c 3000000 /dev/zero"), Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(output.stdout.len(), MAX_OUTPUT);
        assert!(output.status.success());
    }

    #[tokio::test]
    async fn a_command_that_runs_too_long_is_stopped() {
        let error = run(&mut shell("sleep 1000"), Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    }
}
