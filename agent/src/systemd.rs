//! What systemd is told about this program: ready, what it does, alive, stopping. Nothing happens elsewhere.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::executor::Executor;

/// Says that start-up is over, and what the agent does now. Said more than once, it only changes the words.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says what the agent does now.
pub(crate) fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Says that the agent stops.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Pings systemd's watchdog, if there is one, for as long as the executor answers.
pub(crate) async fn watchdog(executor: Executor) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut beat = tokio::time::interval(limit / 3);
    loop {
        beat.tick().await;
        if is_alive(&executor, limit / 3).await {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("the executor does not answer; systemd will restart this agent");
        }
    }
}

async fn is_alive(executor: &Executor, limit: Duration) -> bool {
    tokio::time::timeout(limit, executor.is_alive())
        .await
        .unwrap_or(false)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd was not told: {error}");
    }
}
