//! This module owns [`Backoff`]: how long a lost agent is waited for, as data.

use std::time::Duration;

/// Waiting times between attempts: the first, each next one twice as long up to the longest, until the whole is
/// used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first waiting time.
    pub first: Duration,
    /// The longest one.
    pub longest: Duration,
    /// All waiting times together.
    pub whole: Duration,
}

impl Default for Backoff {
    /// An agent that restarts is back within seconds; a host that reboots takes a minute or two.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(5),
            whole: Duration::from_secs(180),
        }
    }
}

impl Backoff {
    /// The waiting times, in order.
    pub fn delays(self) -> impl Iterator<Item = Duration> {
        let mut spent = Duration::ZERO;
        let mut next = self.first;
        std::iter::from_fn(move || {
            let delay = next.min(self.longest);
            spent += delay;
            next = delay * 2;
            (spent <= self.whole).then_some(delay)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_end() {
        let seconds = Duration::from_secs;
        let backoff = Backoff {
            first: seconds(1),
            longest: seconds(4),
            whole: seconds(12),
        };
        assert_eq!(backoff.delays().collect::<Vec<_>>(), [1, 2, 4, 4].map(seconds));
    }
}
