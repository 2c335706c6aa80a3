//! Waiting for a unit to end. The main process is watched through `/proc`, which costs nothing; systemd is asked
//! only when that process is gone.

use std::time::Duration;

use gantry_model::{ScriptOutcome, StepId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::unit::{self, UnitState};
use super::{ScriptError, systemd};

/// How often the main process is looked at.
const LOOK_AT_PROCESS: Duration = Duration::from_millis(50);
/// How often systemd is asked while a unit is between states.
const ASK_SYSTEMD: Duration = Duration::from_millis(100);
/// So often in a row systemd may fail to answer (it is re-executing itself, or the host is out of memory).
const FAILURES_FORGIVEN: u32 = 30;
/// How long after such a failure systemd is asked again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Waits until the unit ended; ends it when `cancel` is cancelled.
pub(super) async fn watch(id: StepId, cancel: &CancellationToken) -> Result<ScriptOutcome, ScriptError> {
    let mut failures = 0;
    loop {
        let state = match unit::state(id).await {
            Err(error) if failures == FAILURES_FORGIVEN => return Err(systemd(id, error)),
            Err(_) => {
                failures += 1;
                sleep(AFTER_FAILURE).await;
                continue;
            }
            Ok(state) => state,
        };
        failures = 0;
        let main_pid = match state {
            UnitState::Ended(outcome) => return Ok(outcome),
            UnitState::NotStarted(result) => {
                return Err(ScriptError::NotStarted {
                    unit: unit::unit_name(id),
                    result,
                });
            }
            UnitState::Gone if cancel.is_cancelled() => return Ok(ScriptOutcome::Cancelled),
            UnitState::Gone => return Ok(ScriptOutcome::Unknown),
            UnitState::Running { main_pid } => main_pid,
        };
        tokio::select! {
            () = process_ended(main_pid) => {}
            () = cancel.cancelled() => {
                // What ended by itself in the last moment was not cancelled.
                if let Ok(UnitState::Ended(outcome)) = unit::state(id).await {
                    return Ok(outcome);
                }
                unit::stop(id).await.map_err(|error| systemd(id, error))?;
                return Ok(ScriptOutcome::Cancelled);
            }
        }
    }
}

async fn process_ended(pid: u32) {
    let Some(started) = start_time(pid) else {
        sleep(ASK_SYSTEMD).await;
        return;
    };
    // Numbers are used again; a process is known by its number and start time.
    while start_time(pid) == Some(started) {
        sleep(LOOK_AT_PROCESS).await;
    }
}

/// Field 22 of `/proc/PID/stat` (proc_pid_stat(5)); none when there is no such process or it is a zombie.
fn start_time(pid: u32) -> Option<u64> {
    if pid == 0 {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold anything, parentheses too.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_has_a_start_time_and_others_do_not() {
        assert!(start_time(std::process::id()).is_some());
        assert_eq!(start_time(0), None);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(start_time(pid), None);
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("0.2").spawn().unwrap();
        let pid = child.id();
        let reaped = std::thread::spawn(move || child.wait());
        process_ended(pid).await;
        assert_eq!(start_time(pid), None);
        reaped.join().unwrap().unwrap();
    }
}
