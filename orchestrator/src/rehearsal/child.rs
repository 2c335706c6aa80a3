//! This module owns the two processes between `gantry check --rehearse` and the scripts of an image.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use super::script::Stage;
use super::watch::Watch;
use super::{Doubt, Outcome, RehearsalSpec, Rehearsed, ScriptCall, network, sandbox, script};
use crate::confinement::{ChildArgs, Membership, begin_first, first_of_new_namespaces, rights, system_calls};

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
    begin_first()?;
    // As systemd has it, whoever rehearses.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let spec: RehearsalSpec = serde_json::from_slice(&fs::read(spec_file)?)?;
    let answer = rehearse(&spec).map_err(|error| error.to_string());
    io::stdout().write_all(&serde_json::to_vec(&answer)?)?;
    Ok(0)
}

fn rehearse(spec: &RehearsalSpec) -> io::Result<Outcome> {
    let has_ipv6 = network::make()?;
    // As long as paths lead there.
    let membership = spec.group.as_ref().and_then(Membership::open);
    sandbox::enter(spec)?;
    let mut watch = Watch::begin(&spec.cluster_names)?;
    rights::keep_few(false)?;
    system_calls::refuse()?;
    let mut stage = Stage::new(spec, membership)?;
    let mut outcome = Outcome::default();
    for call in &spec.calls {
        let end = rehearse_script(spec, call, &mut stage, &mut watch, &mut outcome)?;
        let Some(follower) = &call.follower else { continue };
        // What a script would have called that ended before is rehearsed by itself.
        if !end.succeeded && !end.trace.has_run(&follower.file_name()) {
            rehearse_script(spec, follower, &mut stage, &mut watch, &mut outcome)?;
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
        (watch.left_out, &left_out),
    ] {
        if is_so {
            outcome.doubts.push(Doubt::new("all scripts", reason));
        }
    }
    outcome.findings = watch.findings;
    Ok(outcome)
}

fn rehearse_script(
    spec: &RehearsalSpec,
    call: &ScriptCall,
    stage: &mut Stage,
    watch: &mut Watch,
    outcome: &mut Outcome,
) -> io::Result<script::ScriptEnd> {
    eprintln!("rehearsing {}", call.name);
    let mut end = script::run(spec, call, stage, watch)?;
    outcome.doubts.append(&mut end.doubts);
    outcome.scripts.push(Rehearsed {
        name: call.name.clone(),
        succeeded: end.succeeded,
    });
    Ok(end)
}
