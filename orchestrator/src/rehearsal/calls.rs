//! This module owns what runs on the host of a rehearsal, in which order: scripts, plugins, and what is launched.

use std::collections::BTreeMap;
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
        launched = launch(image, clusterfile)?;
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
    let env = match when {
        CommandMoment::Commands => clusterfile.command_arguments.clone(),
        _ => BTreeMap::new(),
    };
    own.map(|command| {
        let title = command.origin.title();
        let name = match &command.file {
            Some(file) => format!("{title} of {file}"),
            None => title,
        };
        in_rootfs(&name, command.text.clone(), env.clone())
    })
    .collect()
}

/// What is launched of the image: the applications that `clusterfile` names, else what the image says itself.
fn launch(image: &Image, clusterfile: &Clusterfile) -> anyhow::Result<Vec<ScriptCall>> {
    let applications = launched(image, clusterfile)?;
    if !applications.is_empty() || clusterfile.applications.launched.is_some() {
        let calls = applications.iter().map(|application| {
            let name = &application.name;
            let own = clusterfile.applications.settings.get(name);
            let text = own.and_then(|settings| settings.text(name));
            let text = text.unwrap_or_else(|| application.command());
            in_rootfs(
                &format!("application {name}"),
                text,
                own_environment(application, clusterfile),
            )
        });
        return Ok(calls.collect());
    }
    let lines = image.commands().map_err(store_error)?;
    let calls = lines.into_iter().enumerate().map(|(at, line)| {
        in_rootfs(
            &format!("CMD {}", at + 1),
            line,
            clusterfile.command_arguments.clone(),
        )
    });
    Ok(calls.collect())
}

/// What only `application` finds in its environment: what the image has for it, under what `clusterfile` says.
pub(super) fn own_environment(
    application: &Application,
    clusterfile: &Clusterfile,
) -> BTreeMap<String, String> {
    let own = application.environment();
    let mut env: BTreeMap<String, String> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    let settings = clusterfile.applications.settings.get(&application.name);
    env.extend(settings.map(|settings| settings.env.clone()).unwrap_or_default());
    env
}

/// Bash reads `text` in the rootfs.
fn in_rootfs(name: &str, text: String, env: BTreeMap<String, String>) -> ScriptCall {
    ScriptCall {
        name: shown(name),
        words: vec!["-c".to_owned(), text],
        folder: ROOTFS.into(),
        env,
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
        env: BTreeMap::new(),
        follower: follower.map(|script| Box::new(call(script, image))),
    }
}

/// The applications that are launched, in order: those that `clusterfile` names, else the image's; none where lines are.
pub(super) fn launched(image: &Image, clusterfile: &Clusterfile) -> anyhow::Result<Vec<Application>> {
    let extension = image.extension().map_err(store_error)?.unwrap_or_default();
    let of_image = || {
        let items = extension.launched().into_iter();
        let name = |item| match item {
            LaunchItem::Application(name) => Some(name),
            LaunchItem::Line(_) => None,
        };
        items.filter_map(name).collect()
    };
    let names: Vec<String> = clusterfile.applications.launched.clone().unwrap_or_else(of_image);
    let known = names.iter().filter_map(|name| extension.application(name));
    // Those that nobody says how to launch are not.
    let is_clear = |application: &&Application| {
        let settings = clusterfile.applications.settings.get(&application.name);
        let is_said = settings.is_some_and(|settings| !settings.commands.is_empty());
        is_said || !application.command().trim().is_empty()
    };
    Ok(known.filter(is_clear).cloned().collect())
}
