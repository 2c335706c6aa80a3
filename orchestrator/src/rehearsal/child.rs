//! This module owns the two processes between `gantry check --rehearse` and the scripts of an image.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use rustix::process::{Signal, set_parent_process_death_signal};

use super::watch::Watch;
use super::{Doubt, Outcome, RehearsalSpec, Rehearsed, ScriptCall, network, sandbox, script, system_calls};
use crate::build::run::{ChildArgs, first_of_new_namespaces};

/// The hidden command that starts a child.
pub(super) const COMMAND: &str = "rehearsal-child";

/// Runs one of the two processes; the inner one writes an [`Outcome`], or why there is none, to standard output.
pub fn run_child(args: &ChildArgs) -> ! {
    let result = if args.inner {
        inner(&args.spec)
    } else {
        first_of_new_namespaces(COMMAND, &args.spec, false)
    };
    std::process::exit(result.unwrap_or_else(|error| {
        eprintln!("cannot rehearse: {error}");
        1
    }))
}

fn inner(spec_file: &Path) -> io::Result<i32> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // As systemd has it, whoever rehearses.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    // Scripts get no terminal: `/dev/tty` would be that of whoever rehearses.
    nix::unistd::setsid()?;
    let spec: RehearsalSpec = serde_json::from_slice(&fs::read(spec_file)?)?;
    let answer = rehearse(&spec).map_err(|error| error.to_string());
    io::stdout().write_all(&serde_json::to_vec(&answer)?)?;
    Ok(0)
}

fn rehearse(spec: &RehearsalSpec) -> io::Result<Outcome> {
    let has_ipv6 = network::make()?;
    sandbox::enter(spec)?;
    let mut watch = Watch::begin(&spec.cluster_names)?;
    sandbox::drop_capabilities()?;
    // What a kernel does with the memory of who crashes, it does outside.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    system_calls::refuse()?;
    let pipe = script::open_pipe()?;
    let mut outcome = Outcome::default();
    for call in &spec.calls {
        let end = rehearse_script(spec, call, &pipe, &mut watch, &mut outcome)?;
        let Some(follower) = &call.follower else { continue };
        // What a script would have called that ended before is rehearsed by itself.
        if !end.succeeded && !end.trace.has_run(&follower.file_name()) {
            rehearse_script(spec, follower, &pipe, &mut watch, &mut outcome)?;
        }
    }
    let left_out = format!(
        "there are more findings than the {} that are listed",
        watch.findings.len()
    );
    for (is_so, reason) in [
        (
            !has_ipv6,
            "this machine has no IPv6: what they reach by its addresses is not seen",
        ),
        (
            watch.asked_over_tcp,
            "the resolver was asked over TCP, where names are not seen",
        ),
        (watch.left_out, &left_out),
    ] {
        if is_so {
            outcome.doubts.push(Doubt {
                script: "all scripts".to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
    outcome.findings = watch.findings;
    Ok(outcome)
}

fn rehearse_script(
    spec: &RehearsalSpec,
    call: &ScriptCall,
    pipe: &File,
    watch: &mut Watch,
    outcome: &mut Outcome,
) -> io::Result<script::ScriptEnd> {
    eprintln!("rehearsing {}", call.name);
    let mut end = script::run(spec, call, pipe, watch)?;
    outcome.doubts.append(&mut end.doubts);
    outcome.scripts.push(Rehearsed {
        name: call.name.clone(),
        succeeded: end.succeeded,
    });
    Ok(end)
}
