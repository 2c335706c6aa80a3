//! What time it is. The only place that asks the host's wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the epoch, by this host's clock. Negative before 1970.
#[must_use]
pub fn now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// Seconds since the epoch, by this host's clock, rounded down.
#[must_use]
pub fn now_s() -> i64 {
    now_ms().div_euclid(1000)
}
