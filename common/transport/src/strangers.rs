//! One line in the log about those who are not let in, however often they knock.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::limits::STRANGER_LOG_INTERVAL;

/// Counts what is turned away and says so now and then.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    silent: u64,
    total: u64,
}

impl Strangers {
    /// Somebody at `from` was turned away because of `what`.
    pub(crate) fn note(&self, from: SocketAddr, what: impl fmt::Display) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total += 1;
        let now = Instant::now();
        if state.last.is_some_and(|last| now - last < STRANGER_LOG_INTERVAL) {
            state.silent += 1;
            return;
        }
        let silent = std::mem::take(&mut state.silent);
        state.last = Some(now);
        drop(state);
        if silent == 0 {
            tracing::warn!("turned away {from}: {what}");
        } else {
            tracing::warn!("turned away {from}: {what} (and {silent} more since the last such line)");
        }
    }

    /// How many were turned away.
    pub(crate) fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}
