//! This module owns what runs on the host of a rehearsal, in which order: scripts, plugins, and what is launched.

use std::path::Path;

use gantry_model::CommandMoment;
use gantry_store::{Application, Image, LaunchItem};

use super::ScriptCall;
use super::prepare::store_error;
use super::sandbox::ROOTFS;
use super::trace::shown;
use crate::clusterfile::Clusterfile;
use crate::plan::{PlanImage, ScriptOfHost, scripts_of_first_master};

/// What `init.sh` calls at its end in the images of sealer.
const LAST_OF_INIT: &str = "init-kube.sh";
const INIT: &str = "init.sh";
const CLEAN: &str = "clean.sh";

/// Scripts in the order in which a host comes and goes, with what is launched on it between, and at each moment the commands that
/// `clusterfile` has for this host, those of the image's plugins among them.
///
/// # Errors
/// When the image does not say what is launched.
pub(super) fn calls(
    image: &Image,
    plan_image: &PlanImage,
    clusterfile: &Clusterfile,
) -> anyhow::Result<Vec<ScriptCall>> {
    let scripts = scripts_of_first_master(clusterfile, plan_image);
    let (last, first): (Vec<_>, Vec<_>) = scripts.into_iter().partition(|script| script.script == CLEAN);
    let of_image = |scripts: Vec<ScriptOfHost>| -> Vec<ScriptCall> {
        scripts
            .into_iter()
            .map(|script| call(script, plan_image))
            .collect()
    };
    let at = |when| commands(clusterfile, when);
    let mut launched = at(CommandMoment::Commands);
    if launched.is_empty() {
        launched = launch(image)?;
    }
    Ok([
        at(CommandMoment::BeforeInstall),
        at(CommandMoment::BeforeInit),
        of_image(first),
        at(CommandMoment::AfterJoin),
        at(CommandMoment::BeforeCommands),
        launched,
        at(CommandMoment::AfterCommands),
        at(CommandMoment::BeforeClean),
        of_image(last),
        at(CommandMoment::AfterClean),
    ]
    .concat())
}

/// What `clusterfile` runs on its first master at the moment `when`.
fn commands(clusterfile: &Clusterfile, when: CommandMoment) -> Vec<ScriptCall> {
    let own = clusterfile.commands.iter().filter(|command| command.when == when);
    let own = own.filter(|command| command.is_for(clusterfile, clusterfile.first_master()));
    own.map(|command| {
        let title = command.origin.title();
        let name = match &command.file {
            Some(file) => format!("{title} of {file}"),
            None => title,
        };
        in_rootfs(&name, command.text.clone())
    })
    .collect()
}

/// What the image itself launches.
fn launch(image: &Image) -> anyhow::Result<Vec<ScriptCall>> {
    let lines = image.commands().map_err(store_error)?;
    let launched = launched(image)?;
    let calls = lines.into_iter().enumerate().map(|(at, line)| {
        let name = match launched.get(at) {
            Some(application) => format!("application {}", application.name),
            None => format!("CMD {}", at + 1),
        };
        in_rootfs(&name, line)
    });
    Ok(calls.collect())
}

/// Bash reads `text` in the rootfs.
fn in_rootfs(name: &str, text: String) -> ScriptCall {
    ScriptCall {
        name: shown(name),
        words: vec!["-c".to_owned(), text],
        folder: ROOTFS.into(),
        follower: None,
    }
}

fn call(script: ScriptOfHost, image: &PlanImage) -> ScriptCall {
    let args = script.args.into_iter().map(|arg| arg.replace("{rootfs}", ROOTFS));
    let follower = (script.script == INIT && image.scripts.contains(LAST_OF_INIT)).then(|| ScriptOfHost {
        script: LAST_OF_INIT,
        args: Vec::new(),
    });
    ScriptCall {
        name: format!("scripts/{}", script.script),
        words: std::iter::once(script.script.to_owned()).chain(args).collect(),
        folder: Path::new(ROOTFS).join("scripts"),
        follower: follower.map(|script| Box::new(call(script, image))),
    }
}

/// The applications that are launched, in order; none where lines are.
pub(super) fn launched(image: &Image) -> anyhow::Result<Vec<Application>> {
    let extension = image.extension().map_err(store_error)?.unwrap_or_default();
    let items = extension.launched();
    let known = items.iter().filter_map(|item| match item {
        LaunchItem::Application(name) => extension.application(name),
        LaunchItem::Line(_) => None,
    });
    // Those that nobody says how to launch are not.
    let launched = known.filter(|application| !application.line().trim().is_empty());
    Ok(launched.cloned().collect())
}
