//! The transient unit of a script: how it is started, what systemd says about it, how it is let go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::{ScriptOutcome, StepId};
use gantry_system::processes::{self, ProcessError};
use tokio::process::Command;

use super::command::Program;

/// How long systemd may take to answer. It is slow while it reloads a large host's units.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(60);
/// Where systemd's control groups are: cgroup v2, hybrid, v1.
const CGROUPS: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
];
/// After this much time what does not heed SIGTERM is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The name of a step's unit.
#[must_use]
pub fn unit_name(id: StepId) -> String {
    format!("gantry-step-{}.service", id.short())
}

/// What systemd says about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitState {
    /// It runs, or is being ended. 0: systemd has not named its main process.
    Running {
        /// Its main process.
        main_pid: u32,
    },
    /// It ended.
    Ended(ScriptOutcome),
    /// It never ran: systemd could not start it.
    NotStarted(String),
    /// systemd does not know it.
    Gone,
}

/// Starts the unit; when this returns, the script runs or has ended.
pub(super) async fn start(
    id: StepId,
    program: &Program,
    outputs: &Path,
    environment: &Path,
) -> Result<(), ProcessError> {
    let mut run = tool("systemd-run");
    run.args(arguments(id, program, outputs, environment));
    processes::run_successfully(&mut run, SYSTEMD_LIMIT)
        .await
        .map(drop)
}

fn arguments(id: StepId, program: &Program, outputs: &Path, environment: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--quiet".to_owned(),
        format!("--unit={}", unit_name(id)),
        format!(
            "--description=Gantry: {} of cluster {}",
            program.name, program.cluster
        ),
    ];
    let mut property = |text: String| arguments.push(format!("--property={text}"));
    // An ended unit stays, so that its outcome can be read by an agent that was not there when it ended.
    property("RemainAfterExit=yes".into());
    property("KillMode=control-group".into());
    property("TasksMax=infinity".into());
    property(format!("TimeoutStopSec={}", STOP_GRACE.as_secs()));
    property(format!("WorkingDirectory={}", program.command.folder.display()));
    property(format!("EnvironmentFile={}", environment.display()));
    property(format!(
        "StandardOutput=file:{}",
        outputs.join("stdout").display()
    ));
    property(format!("StandardError=file:{}", outputs.join("stderr").display()));
    if program.time_limit_s > 0 {
        property(format!("RuntimeMaxSec={}", program.time_limit_s));
    }
    arguments.push("--".into());
    arguments.push(program.command.program.to_string_lossy().into_owned());
    // systemd replaces $NAME in a unit's words.
    arguments.extend(program.command.words.iter().map(|word| word.replace('$', "$$")));
    arguments
}

/// What systemd says about the step's unit now.
pub(super) async fn state(id: StepId) -> Result<UnitState, ProcessError> {
    let properties = "LoadState,ActiveState,SubState,Result,MainPID,ExecMainCode,ExecMainStatus";
    let mut show = systemctl(&["show", &unit_name(id), "--property", properties]);
    let output = processes::run_successfully(&mut show, SYSTEMD_LIMIT).await?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Ends the unit and everything in it.
pub(super) async fn stop(id: StepId) -> Result<(), ProcessError> {
    let limit = SYSTEMD_LIMIT + STOP_GRACE;
    processes::run(&mut systemctl(&["stop", &unit_name(id)]), limit)
        .await
        .map(drop)
}

/// Makes the unit's name free: whatever is left of an earlier attempt is ended.
pub(super) async fn discard(id: StepId) -> Result<(), ProcessError> {
    if state(id).await? == UnitState::Gone {
        return Ok(());
    }
    stop(id).await?;
    processes::run(&mut systemctl(&["reset-failed", &unit_name(id)]), SYSTEMD_LIMIT)
        .await
        .map(drop)
}

/// Lets systemd forget the ended unit unless processes are left in it: those are the script's legacy.
pub(super) async fn release(id: StepId) -> Result<(), ProcessError> {
    let mut show = systemctl(&["show", &unit_name(id), "--property", "ControlGroup", "--value"]);
    let group = processes::run_successfully(&mut show, SYSTEMD_LIMIT).await?;
    let group = String::from_utf8_lossy(&group.stdout).trim().to_owned();
    if !group.is_empty()
        && CGROUPS
            .iter()
            .any(|root| has_processes(&PathBuf::from(format!("{root}{group}"))))
    {
        return Ok(());
    }
    discard(id).await
}

/// Whether a process is in the control group at `folder` or in one below it.
fn has_processes(folder: &Path) -> bool {
    if fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|pids| !pids.trim().is_empty()) {
        return true;
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .any(|entry| has_processes(&entry.path()))
}

fn systemctl(arguments: &[&str]) -> Command {
    let mut command = tool("systemctl");
    command.args(arguments);
    command
}

/// One of systemd's tools, in plain English, and not taken for this service speaking.
fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C")
        .env_remove("NOTIFY_SOCKET");
    command
}

/// The meaning of `systemctl show`'s `KEY=VALUE` lines.
fn parse(text: &str) -> UnitState {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map_or("", str::trim)
    };
    let number = |key: &str| value(key).parse::<i32>().unwrap_or(0);
    if value("LoadState") == "not-found" {
        return UnitState::Gone;
    }
    match (value("ActiveState"), value("SubState")) {
        ("active", "exited") | ("failed", _) => {}
        ("inactive", _) => return UnitState::Gone,
        _ => {
            return UnitState::Running {
                main_pid: value("MainPID").parse().unwrap_or(0),
            };
        }
    }
    // waitid(2): 1 exited, 2 killed, 3 killed with a core dump. 0: there was no main process.
    match (value("Result"), number("ExecMainCode")) {
        ("timeout", _) => UnitState::Ended(ScriptOutcome::TimedOut),
        (_, 1) => UnitState::Ended(ScriptOutcome::Exited(number("ExecMainStatus"))),
        (_, 2 | 3) => UnitState::Ended(ScriptOutcome::Signalled(number("ExecMainStatus"))),
        (result, _) => UnitState::NotStarted(result.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(load: &str, active: &str, sub: &str, result: &str, code: u8, status: u8) -> UnitState {
        parse(&format!(
            "Result={result}\nMainPID=4711\nExecMainCode={code}\nExecMainStatus={status}\n\
             LoadState={load}\nActiveState={active}\nSubState={sub}\n"
        ))
    }

    #[test]
    fn what_systemd_says_is_understood() {
        use ScriptOutcome::{Exited, Signalled, TimedOut};
        use UnitState::{Ended, Gone, Running};
        let running = Running { main_pid: 4711 };
        assert_eq!(shown("loaded", "active", "running", "success", 0, 0), running);
        assert_eq!(shown("loaded", "activating", "start", "success", 0, 0), running);
        assert_eq!(
            shown("loaded", "deactivating", "stop-sigterm", "timeout", 0, 0),
            running
        );
        assert_eq!(
            shown("loaded", "active", "exited", "success", 1, 0),
            Ended(Exited(0))
        );
        assert_eq!(
            shown("loaded", "failed", "failed", "exit-code", 1, 127),
            Ended(Exited(127))
        );
        assert_eq!(
            shown("loaded", "failed", "failed", "signal", 2, 9),
            Ended(Signalled(9))
        );
        assert_eq!(
            shown("loaded", "failed", "failed", "core-dump", 3, 11),
            Ended(Signalled(11))
        );
        assert_eq!(
            shown("loaded", "failed", "failed", "oom-kill", 2, 9),
            Ended(Signalled(9))
        );
        assert_eq!(
            shown("loaded", "failed", "failed", "timeout", 2, 15),
            Ended(TimedOut)
        );
        assert_eq!(shown("not-found", "inactive", "dead", "success", 0, 0), Gone);
        assert_eq!(shown("loaded", "inactive", "dead", "success", 2, 15), Gone);
        assert!(matches!(
            shown("loaded", "failed", "failed", "resources", 0, 0),
            UnitState::NotStarted(_)
        ));
        assert_eq!(parse(""), Running { main_pid: 0 });
    }

    #[test]
    fn processes_of_a_control_group_are_found_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("system.slice/gantry-step-1.service");
        fs::create_dir_all(group.join("inner")).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        assert!(!has_processes(&group) && !has_processes(&folder.path().join("gone")));
        fs::write(group.join("inner/cgroup.procs"), "4711\n").unwrap();
        assert!(has_processes(&group));
    }

    #[test]
    fn words_reach_the_script_as_they_are_and_the_environment_is_not_among_them() {
        let spec = gantry_model::ScriptSpec {
            cluster: "demo".parse().unwrap(),
            path: "scripts/init.sh".into(),
            args: vec!["$HOME".into(), "a b".into()],
            env: [("PASSWORD".to_owned(), "secret".to_owned())].into(),
            time_limit_s: 60,
        };
        let program = Program::script(&spec, Path::new("/r")).unwrap();
        let id = gantry_model::Step {
            action: gantry_model::StepAction::RunScript(spec.clone()),
            after: vec![],
        }
        .id();
        let arguments = arguments(id, &program, Path::new("/s"), Path::new("/s/environment"));
        assert_eq!(
            arguments[arguments.len() - 4..],
            ["/bin/bash", "init.sh", "$$HOME", "a b"]
        );
        assert!(arguments.contains(&"--property=RuntimeMaxSec=60".to_owned()));
        assert!(arguments.contains(&"--property=WorkingDirectory=/r/scripts".to_owned()));
        assert!(!arguments.concat().contains("secret"));
    }
}
