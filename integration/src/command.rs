//! Commands of this machine, run to their end with both outputs kept.

use std::ffi::OsStr;
use std::fmt;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was run, for messages.
    pub command: String,
    /// Its exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Finished {
    /// From what the standard library reports.
    #[must_use]
    pub fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Whether it exited with status 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.status == Some(0)
    }

    /// Its standard output, if it succeeded.
    ///
    /// # Errors
    /// The command, its status and both outputs, if it did not.
    pub fn ok(self) -> Result<String> {
        if !self.succeeded() {
            bail!("{self}");
        }
        Ok(self.stdout)
    }

    /// Both outputs, standard output first.
    #[must_use]
    pub fn all_output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => writeln!(f, "`{}` exited with status {status}", self.command)?,
            None => writeln!(f, "`{}` was ended by a signal", self.command)?,
        }
        writeln!(f, "--- standard output\n{}", self.stdout)?;
        write!(f, "--- standard error\n{}", self.stderr)
    }
}

/// How a command line is shown in messages.
#[must_use]
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command without standard input until it ends.
///
/// # Errors
/// When it cannot be started.
pub fn run(command: &mut Command) -> Result<Finished> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    Ok(Finished::new(shown(command), &output))
}

/// Runs a program that has to succeed; gives its standard output.
///
/// # Errors
/// When it cannot be started or fails; the message holds its output.
pub fn must<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    run(Command::new(program).args(args))?.ok()
}
