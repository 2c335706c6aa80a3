//! This module owns [`RetryPolicy`]: how often something is tried, and how long to wait between.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use crate::limits::MAX_RETRY_AFTER;

/// How often a request that failed for no fault of its own is tried again. Every byte that arrives starts the count anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first.
    pub retries: u32,
    /// Wait before the second try; each later one waits twice as long as the one before.
    pub first_wait: Duration,
    /// Longest wait that is not asked for by the registry.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
        }
    }
}

impl RetryPolicy {
    /// How long to wait before try `next` (1 is the first after a failure), a little different every time so that many
    /// clients do not come back at once. None when it was the last.
    pub(crate) fn wait(&self, next: u32, asked: Option<Duration>) -> Option<Duration> {
        if next > self.retries {
            return None;
        }
        if let Some(asked) = asked {
            return (asked <= MAX_RETRY_AFTER).then_some(asked);
        }
        let doubled = self.first_wait.saturating_mul(1 << (next - 1).min(16));
        let wait = doubled.min(self.longest_wait);
        let spread = RandomState::new().hash_one(next) % 256;
        Some(wait / 2 + wait.mul_f64(0.5 * spread as f64 / 255.0))
    }
}

/// What `Retry-After` asks for (RFC 9110, section 10.2.3): seconds, or a date.
pub(crate) fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let policy = RetryPolicy::default();
        let first = policy.wait(1, None).unwrap();
        assert!((250..=500).contains(&first.as_millis()), "{first:?}");
        let last = policy.wait(5, None).unwrap();
        assert!((4000..=8000).contains(&last.as_millis()), "{last:?}");
        assert_eq!(policy.wait(6, None), None);
        let asked = Duration::from_secs(90);
        assert_eq!(policy.wait(1, Some(asked)), Some(asked));
        assert_eq!(policy.wait(1, Some(Duration::from_secs(86_400))), None);
    }

    #[test]
    fn a_registry_says_when_to_come_back() {
        let now: jiff::Timestamp = "2027-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Sun, 31 Jan 2027 12:00:30 GMT", now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            retry_after("Sun, 31 Jan 2027 11:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("soon", now), None);
    }
}
