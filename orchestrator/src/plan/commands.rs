//! This module owns [`ImageCommands`]: what an image wants run when its cluster is complete (`LAUNCH`, `CMDS` and
//! `CMD` of its Kubefile), and the steps that do it: on the first master, in order, each once.

use gantry_model::{
    ApplicationLaunch, CommandMoment, CommandOrigin, ConfigFile, ImageCommand, ShellCommand, Step,
    StepAction, StepId,
};
use gantry_store::{Application, Image, LaunchItem, StoreError};
use serde::{Deserialize, Serialize};

use super::configs::below;
use super::environment::{application_environment, environment};
use super::progress::{NOT_DONE, state_step};
use super::scripts::SCRIPT_TIME_LIMIT_S;
use super::shell_commands::{planned, shown};
use super::{Mark, PlanImage, PlannedStep, Wave};
use crate::clusterfile::Clusterfile;
use crate::inventory::ClusterInventory;

/// The commands of an image, and the documents that prove them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageCommands {
    /// The shell lines, in order; none where applications are launched.
    pub lines: Vec<String>,
    /// The names of the applications that it launches, in order.
    #[serde(default)]
    pub launched: Vec<String>,
    /// Its applications.
    #[serde(default)]
    pub applications: Vec<Application>,
    /// The image's manifest.
    pub manifest: String,
    /// Its config.
    pub config: String,
}

impl ImageCommands {
    /// The commands and applications of `image`; none when it has none.
    ///
    /// # Errors
    /// When what it says about them cannot be read.
    pub(super) fn of(image: &Image) -> Result<Option<Self>, StoreError> {
        // Names those that it does not have, whichever are launched.
        let mut lines = image.commands()?;
        let extension = image.extension()?.unwrap_or_default();
        let name = |item| match item {
            LaunchItem::Application(name) => Some(name),
            LaunchItem::Line(_) => None,
        };
        let mut launched: Vec<String> = extension.launched().into_iter().filter_map(name).collect();
        if launched.iter().any(|name| !ApplicationLaunch::is_name(name)) {
            // Names that can be no titles: their lines are run.
            launched.clear();
        } else if !launched.is_empty() {
            lines.clear();
        }
        let applications = extension.applications;
        Ok((!lines.is_empty() || !applications.is_empty()).then(|| Self {
            lines,
            launched,
            applications,
            // Both were read as JSON, which is UTF-8 (RFC 8259).
            manifest: String::from_utf8_lossy(&image.manifest_bytes).into_owned(),
            config: String::from_utf8_lossy(&image.config_bytes).into_owned(),
        }))
    }

    /// Whether the application `name` is launched, by its name or by a line that names its folder.
    pub(super) fn launches(&self, clusterfile: &Clusterfile, name: &str) -> bool {
        let known = self.applications.iter().find(|one| one.name == name);
        let in_line = |application: &Application| {
            let folder = application.folder();
            clusterfile.applications.launched.is_none()
                && self.lines.iter().any(|line| line.contains(&folder))
        };
        self.launched(clusterfile).iter().any(|one| one == name) || known.is_some_and(in_line)
    }

    /// The names of the applications that are launched: those that `clusterfile` names, or else those of the image.
    fn launched<'a>(&'a self, clusterfile: &'a Clusterfile) -> &'a [String] {
        clusterfile
            .applications
            .launched
            .as_ref()
            .unwrap_or(&self.launched)
    }
}

/// How the first master's rootfs comes to be what it is.
#[derive(Debug)]
pub(super) struct Base {
    /// The steps that make it so, the first of which assembles it: behind others the image's lines run again.
    pub(super) steps: Vec<StepId>,
    /// What the Clusterfile writes into it: other files of its own launch an application again.
    pub(super) files: Vec<ConfigFile>,
}

/// The wave that runs the image's commands, or launches applications, on the first master, whose rootfs `base` makes.
pub(super) fn wave(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    base: &Base,
) -> Wave {
    let mut steps = Vec::new();
    if let Some(commands) = &image.commands {
        if clusterfile.applications.launched.is_none() {
            steps.extend(lines(clusterfile, image, commands, inventory, base.steps.clone()));
        }
        let known = |name: &String| commands.applications.iter().find(|one| one.name == *name);
        let launched = commands.launched(clusterfile).iter().filter_map(known);
        let step = |application| launch(clusterfile, image, commands, application, inventory, base);
        steps.extend(launched.filter_map(step));
    }
    Wave {
        title: "commands".into(),
        keep_going: false,
        steps,
    }
}

/// The image's lines: after one that is new here each waits for the one before.
fn lines(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    commands: &ImageCommands,
    inventory: &ClusterInventory,
    mut after: Vec<StepId>,
) -> Vec<PlannedStep> {
    let first = clusterfile.first_master();
    let mut env = environment(clusterfile, image, first);
    env.extend(clusterfile.command_arguments.clone());
    let mut steps = Vec::new();
    for (line, index) in commands.lines.iter().zip(0..) {
        let step = Step {
            action: StepAction::RunImageCommand(ImageCommand {
                cluster: clusterfile.name.clone(),
                command: line.clone(),
                index,
                manifest: commands.manifest.clone(),
                config: commands.config.clone(),
                env: env.clone(),
                time_limit_s: SCRIPT_TIME_LIMIT_S,
            }),
            after: after.clone(),
        };
        after.push(step.id());
        let report = inventory.report(first.address);
        steps.push(planned(first.address, step, report, line.clone()));
    }
    steps
}

/// The step that launches `application`; none when nobody says how. Applications do not build on each other: one more
/// or one less launches no other again, nor does a file that is written somewhere else.
fn launch(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    commands: &ImageCommands,
    application: &Application,
    inventory: &ClusterInventory,
    base: &Base,
) -> Option<PlannedStep> {
    let first = clusterfile.first_master();
    let name = &application.name;
    let settings = clusterfile.applications.settings.get(name);
    let env = application_environment(clusterfile, image, first, name);
    let cluster = clusterfile.name.clone();
    let (action, shown) =
        if let Some((settings, text)) = settings.and_then(|own| Some((own, own.text(name)?))) {
            let command = ShellCommand {
                cluster,
                origin: CommandOrigin::Application(name.clone()),
                when: CommandMoment::Commands,
                text,
                env,
                time_limit_s: SCRIPT_TIME_LIMIT_S,
            };
            let shown = shown(&settings.commands.join("\n"));
            (StepAction::RunShellCommand(command), shown)
        } else {
            let launch = ApplicationLaunch {
                cluster,
                application: name.clone(),
                manifest: commands.manifest.clone(),
                env,
                time_limit_s: SCRIPT_TIME_LIMIT_S,
            };
            (StepAction::LaunchApplication(launch), application.command())
        };
    let assembled = base.steps.first().copied();
    let after: Vec<StepId> = assembled
        .into_iter()
        .chain(below(clusterfile, &base.files, &application.folder()))
        .collect();
    let (step, mark, why) = state_step(action, &after, inventory.report(first.address));
    let reason = if mark == Mark::Done || why == NOT_DONE {
        shown.clone()
    } else {
        format!("{why}: {shown}")
    };
    (!shown.is_empty()).then(|| PlannedStep::new(first.address, step, mark, reason))
}
