//! What becomes of steps that the last agent did not see to their end.

use gantry_model::StepOutcome;
use gantry_system::clock;

use super::task::Task;

/// Scripts are units of their own: they are watched again, and their end is read from systemd. Whatever else was
/// going on stopped with the agent, somewhere.
pub(super) fn recover(task: &mut Task) {
    for (record, kind) in task.journal.unfinished() {
        let (id, title) = (record.id, record.title);
        if kind.runs_a_program() {
            tracing::info!(step = %id.short(), "{title} was running when the agent ended; watching it again");
            task.host.scripts.remove_environment(id);
            task.attach(id, kind, title);
            continue;
        }
        tracing::warn!(step = %id.short(), "{title} was running when the agent ended; its outcome is unknown");
        if let Err(error) = task.journal.finish(id, &StepOutcome::Unknown, clock::now_s()) {
            tracing::error!(step = %id.short(), "{error}");
        }
    }
}
