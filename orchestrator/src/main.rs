//! `gantry`: parse, run, say what went wrong, exit. Nothing else.

use clap::Parser as _;
use gantry::{cli::Cli, exit};

fn main() -> std::process::ExitCode {
    exit::report(gantry::commands::run(Cli::parse())).into()
}
