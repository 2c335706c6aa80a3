//! A few lines in the log about those who are not let in, however often they knock.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::limits::{MAX_LOGGED_ADDRESSES, STRANGER_LOG_INTERVAL, STRANGER_LOG_LINES};

/// Counts what is turned away and says so, each address at most so often.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    by_address: HashMap<IpAddr, Interval>,
    total: u64,
}

#[derive(Debug)]
struct Interval {
    began: Instant,
    lines: u32,
    silent: u64,
}

impl Strangers {
    /// Somebody at `from` was turned away because of `what`.
    pub(crate) fn note(&self, from: SocketAddr, what: impl fmt::Display) {
        let Some(silent) = self.may_say(from.ip().to_canonical(), Instant::now()) else {
            return;
        };
        if silent == 0 {
            tracing::warn!("turned away {from}: {what}");
        } else {
            tracing::warn!("turned away {from}: {what} (and {silent} times before, not logged)");
        }
    }

    /// Whether a line may be written now, and how many were not before it.
    fn may_say(&self, from: IpAddr, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total += 1;
        let by_address = &mut state.by_address;
        if by_address.len() >= MAX_LOGGED_ADDRESSES && !by_address.contains_key(&from) {
            by_address.retain(|_, interval| now - interval.began < STRANGER_LOG_INTERVAL);
        }
        // Too many at once share one entry.
        let full = by_address.len() >= MAX_LOGGED_ADDRESSES && !by_address.contains_key(&from);
        let key = if full {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            from
        };
        let interval = by_address.entry(key).or_insert(Interval {
            began: now,
            lines: 0,
            silent: 0,
        });
        if now - interval.began >= STRANGER_LOG_INTERVAL {
            *interval = Interval {
                began: now,
                lines: 0,
                silent: interval.silent,
            };
        }
        if interval.lines >= STRANGER_LOG_LINES {
            interval.silent += 1;
            return None;
        }
        interval.lines += 1;
        Some(std::mem::take(&mut interval.silent))
    }

    /// How many were turned away.
    pub(crate) fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_fill_the_log_nor_silence_another() {
        let strangers = Strangers::default();
        let [loud, other] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let start = Instant::now();
        let said = (0..100)
            .filter(|_| strangers.may_say(loud, start).is_some())
            .count();
        assert_eq!(said, STRANGER_LOG_LINES as usize);
        assert_eq!(strangers.may_say(other, start), Some(0));
        let later = start + STRANGER_LOG_INTERVAL;
        assert_eq!(
            strangers.may_say(loud, later),
            Some(100 - u64::from(STRANGER_LOG_LINES))
        );
        assert_eq!(strangers.total(), 102);
    }

    #[test]
    fn addresses_remembered_are_bounded() {
        let strangers = Strangers::default();
        let start = Instant::now();
        for number in 0..10_000_u32 {
            let _ = strangers.may_say(IpAddr::V4(Ipv4Addr::from(number)), start);
        }
        assert!(strangers.0.lock().unwrap().by_address.len() <= MAX_LOGGED_ADDRESSES + 1);
    }
}
