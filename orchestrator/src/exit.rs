//! The one place where an error becomes an exit code and a message for people.

use std::fmt;
use std::io;

use anyhow::Error;
use gantry_model::ExitCode;

/// An error that knows its exit code and, where there is one, the next thing to do.
///
/// It prints as the error it carries, so a chain names each cause once.
pub struct Failure {
    code: ExitCode,
    error: Error,
    hint: Option<String>,
}

impl Failure {
    /// The exit code the program ends with.
    #[must_use]
    pub const fn code(&self) -> ExitCode {
        self.code
    }

    /// The next thing to do, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Gives an error its exit code, and its reader the next command.
pub trait OrExit<T> {
    /// The program ends with `code` on this error.
    ///
    /// # Errors
    /// The same error, with its exit code.
    fn or_exit(self, code: ExitCode) -> Result<T, Error>;

    /// Like [`OrExit::or_exit`], and `hint` says what to do next: one line, without a full stop.
    ///
    /// # Errors
    /// The same error, with its exit code and hint.
    fn or_exit_hint(self, code: ExitCode, hint: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, code: ExitCode) -> Result<T, Error> {
        self.map_err(|error| {
            Failure {
                code,
                error: error.into(),
                hint: None,
            }
            .into()
        })
    }

    fn or_exit_hint(self, code: ExitCode, hint: impl Into<String>) -> Result<T, Error> {
        self.map_err(|error| {
            Failure {
                code,
                error: error.into(),
                hint: Some(hint.into()),
            }
            .into()
        })
    }
}

/// An error made of one sentence and its exit code.
#[must_use]
pub fn failure(code: ExitCode, message: impl fmt::Display) -> Error {
    Failure {
        code,
        error: anyhow::anyhow!("{message}"),
        hint: None,
    }
    .into()
}

/// An error made of one sentence, its exit code and the next thing to do.
#[must_use]
pub fn failure_hint(code: ExitCode, message: impl fmt::Display, hint: impl Into<String>) -> Error {
    Failure {
        code,
        error: anyhow::anyhow!("{message}"),
        hint: Some(hint.into()),
    }
    .into()
}

/// Prints what a command ended with on standard error and gives its exit code.
///
/// A reader that went away (`gantry images | head`) is not an error worth a word.
pub fn report(result: Result<ExitCode, Error>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_broken_pipe(&error) {
        return ExitCode::Done;
    }
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    anstream::eprintln!("{}", describe(&error));
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_deref()) {
        let style = anstyle::AnsiColor::Cyan.on_default().bold();
        anstream::eprintln!("{style}hint:{style:#} {hint}");
    }
    failure.map_or(ExitCode::Internal, Failure::code)
}

/// The chain of causes as `error: first: second`, a cause that its parent names already left out.
fn describe(error: &Error) -> String {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    format!("{style}error:{style:#} {text}")
}

fn is_broken_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_failure_keeps_its_code_under_added_context() {
        let error = Err::<(), _>(io::Error::other("disk on fire"))
            .or_exit_hint(ExitCode::Verification, "buy a disk")
            .context("cannot read store")
            .unwrap_err();
        assert!(describe(&error).ends_with("cannot read store: disk on fire"));
        assert_eq!(report(Err(error)), ExitCode::Verification);
    }

    #[test]
    fn an_error_without_a_code_is_internal_and_a_broken_pipe_is_quiet() {
        assert_eq!(report(Err(anyhow::anyhow!("unforeseen"))), ExitCode::Internal);
        let pipe = Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot write");
        assert_eq!(report(Err(pipe)), ExitCode::Done);
    }
}
