//! `gantry`: parse, run, say what went wrong, exit. Nothing else.

use clap::Parser as _;
use gantry::{cli::Cli, exit, log};

fn main() -> std::process::ExitCode {
    log::start();
    exit::report(gantry::commands::run(Cli::parse())).into()
}
