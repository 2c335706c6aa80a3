//! The question before anything is changed.

use std::io::{IsTerminal as _, Write as _};

use gantry_model::ExitCode;

use crate::exit::failure_hint;

/// Asks `question` on the terminal. `yes` answers it beforehand; without a terminal nobody can.
///
/// # Errors
/// When there is no terminal and `yes` was not given.
pub(super) async fn confirm(question: &'static str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(failure_hint(
            ExitCode::Input,
            "nothing was done: there is no terminal to ask on",
            "give -y to go ahead without a question",
        ));
    }
    // On a thread of its own, so that Ctrl-C works while it waits.
    tokio::task::spawn_blocking(move || ask(question)).await?
}

fn ask(question: &str) -> anyhow::Result<bool> {
    anstream::eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
