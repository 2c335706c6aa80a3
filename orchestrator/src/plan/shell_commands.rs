//! The steps that run commands of the Clusterfile itself, plugins of type SHELL and `spec.cmd`, and those of plugins that
//! the image brings.

use std::net::IpAddr;

use gantry_model::{
    ClusterName, CommandMoment, ImagePlugin, ShellCommand, Step, StepAction, StepId, StepOutcome, StepRecord,
};

use super::environment::environment;
use super::progress::{NOT_DONE, why_to_do};
use super::scripts::SCRIPT_TIME_LIMIT_S;
use super::{Mark, PlanImage, PlannedStep, Wave};
use crate::clusterfile::{Clusterfile, Host};
use crate::inventory::{ClusterInventory, HostReport};
use crate::report::printable;

/// What `host` runs at the moment `when`. `after` are the steps by which its rootfs came to be what it is, the one that
/// assembled it first: with others the commands run again. Those that belong to the way to an image run once on it.
pub(super) fn steps(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    when: CommandMoment,
    after: &[StepId],
    report: Option<&HostReport>,
) -> Vec<PlannedStep> {
    let on_the_way = matches!(
        when,
        CommandMoment::BeforeUpgrade | CommandMoment::AfterUpgrade | CommandMoment::AfterRollback
    );
    let mut after = after.to_vec();
    if on_the_way {
        after.truncate(1);
    }
    let mut steps = Vec::new();
    let own = clusterfile.commands.iter().filter(|command| command.when == when);
    for command in own.filter(|command| command.is_for(clusterfile, host)) {
        let mut env = environment(clusterfile, image, host);
        if when == CommandMoment::Commands {
            env.extend(clusterfile.command_arguments.clone());
        }
        let shell = ShellCommand {
            cluster: clusterfile.name.clone(),
            origin: command.origin.clone(),
            when,
            text: command.text.clone(),
            env,
            time_limit_s: SCRIPT_TIME_LIMIT_S,
        };
        let action = match &command.file {
            Some(file) => StepAction::RunImagePlugin(ImagePlugin {
                command: shell,
                file: file.clone(),
            }),
            None => StepAction::RunShellCommand(shell),
        };
        let step = Step {
            action,
            after: after.clone(),
        };
        // Those of a list build on each other, as an image's do.
        if when == CommandMoment::Commands {
            after.push(step.id());
        }
        let shown = shown(&command.text);
        let shown = match &command.file {
            Some(file) => format!("{file}: {shown}"),
            None => shown,
        };
        let title = command.origin.title();
        // Of a command that comes at other moments, too, or has the name of another, its title does not say which ran.
        let same = clusterfile
            .commands
            .iter()
            .filter(|other| other.origin == command.origin);
        let same = same.filter(|other| !are_never_both(when, other.when));
        let once = on_the_way && same.count() == 1;
        let came = || came_behind(&clusterfile.name, &title, after.first().copied(), report);
        steps.push(if once && came() {
            PlannedStep::new(host.address, step, Mark::Done, shown)
        } else {
            planned(host.address, step, report, shown)
        });
    }
    steps
}

/// Whether a host that came to its image by the one way did not come by the other.
fn are_never_both(one: CommandMoment, other: CommandMoment) -> bool {
    use CommandMoment::{AfterRollback, AfterUpgrade, BeforeUpgrade};
    let back = |moment| moment == AfterRollback;
    let there = |moment| matches!(moment, BeforeUpgrade | AfterUpgrade);
    (back(one) && there(other)) || (there(one) && back(other))
}

/// Whether the step with this title ended well since the host came to the rootfs that the step `rootfs` assembled.
fn came_behind(
    cluster: &ClusterName,
    title: &str,
    rootfs: Option<StepId>,
    report: Option<&HostReport>,
) -> bool {
    let (Some(report), Some(rootfs)) = (report, rootfs) else {
        return false;
    };
    let records: Vec<&StepRecord> = report.records(cluster).collect();
    let position = |is_it: &dyn Fn(&StepRecord) -> bool| records.iter().rposition(|record| is_it(record));
    let ended_well = |record: &StepRecord| {
        record.title == title && record.outcome.as_ref().is_some_and(StepOutcome::succeeded)
    };
    match (position(&|record| record.id == rootfs), position(&ended_well)) {
        (Some(assembled), Some(ended)) => ended > assembled,
        _ => false,
    }
}

/// The step of a command that people know by `shown`.
pub(super) fn planned(host: IpAddr, step: Step, report: Option<&HostReport>, shown: String) -> PlannedStep {
    let why = report.map_or_else(|| Some(NOT_DONE.into()), |report| why_to_do(step.id(), report));
    match why {
        None => PlannedStep::new(host, step, Mark::Done, shown),
        Some(why) if why == NOT_DONE => PlannedStep::new(host, step, Mark::Add, shown),
        Some(why) => PlannedStep::new(host, step, Mark::Change, format!("{why}: {shown}")),
    }
}

/// What every host runs at the moment `when`; `after` gives the steps that made its rootfs.
pub(super) fn wave(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    inventory: &ClusterInventory,
    when: CommandMoment,
    after: impl Fn(IpAddr) -> Vec<StepId>,
) -> Wave {
    let of_host = |host: &Host| {
        let report = inventory.report(host.address);
        steps(clusterfile, image, host, when, &after(host.address), report)
    };
    let mut steps: Vec<PlannedStep> = clusterfile.hosts.iter().flat_map(of_host).collect();
    // So that the plan shows them in the order in which every host runs them.
    let titles = clusterfile.commands.iter().map(|command| command.origin.title());
    let order: Vec<String> = titles.collect();
    steps.sort_by_key(|step| order.iter().position(|title| *title == step.title));
    Wave {
        title: title(when).into(),
        keep_going: false,
        steps,
    }
}

const fn title(when: CommandMoment) -> &'static str {
    match when {
        CommandMoment::BeforeInstall => "before install",
        CommandMoment::BeforeInit => "before init",
        CommandMoment::AfterJoin => "after join",
        CommandMoment::BeforeCommands => "before commands",
        CommandMoment::Commands => "commands",
        CommandMoment::AfterCommands => "after commands",
        CommandMoment::BeforeClean => "before clean",
        CommandMoment::AfterClean => "after clean",
        CommandMoment::BeforeUpgrade => "before upgrade",
        CommandMoment::AfterUpgrade => "after upgrade",
        CommandMoment::AfterRollback => "after rollback",
        CommandMoment::BeforeScaleUp => "before scale-up",
        CommandMoment::AfterScaleUp => "after scale-up",
    }
}

/// The first line that says something, and how many more there are.
pub(super) fn shown(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = printable(lines.next().unwrap_or_default().as_bytes());
    match lines.count() {
        0 => first,
        1 => format!("{first} … and 1 more line"),
        more => format!("{first} … and {more} more lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_the_first_line() {
        assert_eq!(shown("\n  echo a\n"), "echo a");
        assert_eq!(shown("echo a\n\necho b\n"), "echo a … and 1 more line");
        assert_eq!(shown("a\nb\nc\n"), "a … and 2 more lines");
    }
}
