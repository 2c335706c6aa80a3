//! What the audience sees: chapters, prompts, commands and what they print.

use std::time::Instant;

use anyhow::{Result, bail};
use gantry_integration::{Host, Operator, command};

/// The place everything is shown on.
pub(crate) struct Stage {
    opened: Instant,
}

impl Stage {
    pub(crate) fn open() -> Self {
        Self {
            opened: Instant::now(),
        }
    }

    /// Says what comes next.
    pub(crate) fn chapter(&self, title: &str) {
        println!("\n━━ {title}  [{:.0} s]", self.opened.elapsed().as_secs_f64());
    }

    /// Runs a command on a host, as if typed there; gives what it printed.
    pub(crate) fn on(&self, host: &Host, script: &str) -> Result<String> {
        println!("\n{}# {script}", host.name());
        let finished = host.run(&format!("cd /root && {{ {script}; }}"))?;
        print!("{}", finished.all_output());
        finished.ok()
    }

    /// Runs `gantry` at the operator's machine; gives what it printed.
    pub(crate) fn type_command(&self, operator: &Operator, words: &str) -> Result<String> {
        println!("\n$ gantry {words}");
        let finished = operator.gantry(words)?;
        print!("{}", finished.all_output());
        finished.ok()
    }

    /// Runs `gantry` with its output live, so that its progress is seen.
    pub(crate) fn watch_command(&self, operator: &Operator, words: &str) -> Result<()> {
        println!("\n$ gantry {words}");
        let status = operator.command(words).status()?;
        if !status.success() {
            bail!("`gantry {words}` ended with {status}");
        }
        Ok(())
    }

    /// Runs shell words at the operator's machine.
    pub(crate) fn shell(&self, operator: &Operator, script: &str) -> Result<()> {
        println!("\n$ {script}");
        let finished = command::run(&mut operator.shell(script))?;
        print!("{}", finished.stdout);
        finished.ok().map(drop)
    }

    pub(crate) fn finish(&self) {
        println!(
            "\n━━ Done in {:.0} s. The hosts are gone, and nothing of this is left on your machine.",
            self.opened.elapsed().as_secs_f64()
        );
    }
}
