//! `gantry`: parse, run, say what went wrong, exit. Nothing else.

use gantry::{cli, commands, exit, log};

fn main() -> std::process::ExitCode {
    log::start();
    exit::report(cli::parse().and_then(commands::run)).into()
}
