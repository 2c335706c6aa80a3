//! This module owns [`Backends`]: the API servers as they were found, who gets new connections, and whose are cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::probe::Health;

/// How often in a row a backend has to be found otherwise before it counts: one late answer moves nobody.
const CHANGES_AFTER: u32 = 2;
/// A backend that was silent for this long is down: its connections are cut, so that their owners come again and are
/// led elsewhere, instead of waiting for a host that has no power.
const SILENT_LIMIT: Duration = Duration::from_secs(5);
/// One that answers and is not ready for this long is of no use to its connections either. A server that restarts or
/// shuts down ends them itself before.
const NOT_READY_LIMIT: Duration = Duration::from_secs(30);

/// One API server, as it was found last.
#[derive(Debug, Clone)]
struct Backend {
    /// It gets new connections.
    ready: bool,
    /// How often in a row it was found to be otherwise than `ready` says.
    otherwise: u32,
    /// When it answered last, and when it was ready last, or was first heard of.
    answered: Instant,
    was_ready: Instant,
    /// Cancelled when its connections are to be cut.
    cut: CancellationToken,
}

/// The API servers. A new one counts as ready until it is found not to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Backends(BTreeMap<SocketAddr, Backend>);

impl Backends {
    /// Makes `addresses` the ones that are led to; connections of those that are gone are cut.
    pub(super) fn set(&mut self, addresses: &BTreeSet<SocketAddr>) {
        self.0.retain(|address, backend| {
            let stays = addresses.contains(address);
            if !stays {
                backend.cut.cancel();
            }
            stays
        });
        for &address in addresses {
            self.0.entry(address).or_insert_with(|| Backend {
                ready: true,
                otherwise: 0,
                answered: Instant::now(),
                was_ready: Instant::now(),
                cut: CancellationToken::new(),
            });
        }
    }

    /// Whom to try, in order: those that are ready, from another one each turn, then the rest.
    pub(super) fn order(&self, turn: usize) -> Vec<(SocketAddr, CancellationToken)> {
        let of = |ready: bool| {
            let some: Vec<_> = self
                .0
                .iter()
                .filter(|(_, backend)| backend.ready == ready)
                .map(|(address, backend)| (*address, backend.cut.clone()))
                .collect();
            let start = if some.is_empty() { 0 } else { turn % some.len() };
            some.clone().into_iter().cycle().skip(start).take(some.len())
        };
        of(true).chain(of(false)).collect()
    }

    /// Takes down how the backend at `address` was found.
    pub(super) fn note(&mut self, address: SocketAddr, health: &Health) {
        let others_are_ready = self
            .0
            .iter()
            .any(|(other, backend)| *other != address && backend.ready);
        let Some(backend) = self.0.get_mut(&address) else {
            return;
        };
        let now = Instant::now();
        let ready = *health == Health::Ready;
        backend.otherwise = if ready == backend.ready {
            0
        } else {
            backend.otherwise + 1
        };
        if backend.otherwise >= CHANGES_AFTER {
            (backend.ready, backend.otherwise) = (ready, 0);
            match health {
                Health::Ready => tracing::info!(%address, "API server is ready"),
                Health::NotReady(reason) => tracing::warn!(%address, reason, "API server is not ready"),
                Health::Silent(reason) => tracing::warn!(%address, reason, "API server does not answer"),
            }
        }
        if !matches!(health, Health::Silent(_)) {
            backend.answered = now;
        }
        if ready {
            backend.was_ready = now;
        }
        let of_no_use = now - backend.answered >= SILENT_LIMIT
            || (now - backend.was_ready >= NOT_READY_LIMIT && others_are_ready);
        if of_no_use {
            backend.cut.cancel();
        } else if backend.ready && backend.cut.is_cancelled() {
            backend.cut = CancellationToken::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST2: &str = "10.0.0.2:6443";
    const HOST3: &str = "10.0.0.3:6443";

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn backends() -> Backends {
        let mut backends = Backends::default();
        backends.set(&[at(HOST2), at(HOST3)].into());
        backends
    }

    fn first(backends: &Backends) -> BTreeSet<SocketAddr> {
        (0..4).map(|turn| backends.order(turn)[0].0).collect()
    }

    fn cut_of(backends: &Backends, address: &str) -> CancellationToken {
        backends.0[&at(address)].cut.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn one_late_answer_moves_nobody_and_two_do_both_ways() {
        let mut backends = backends();
        let (late, ready) = (Health::NotReady("status 500: etcd failed".into()), Health::Ready);
        backends.note(at(HOST2), &late);
        backends.note(at(HOST2), &ready);
        backends.note(at(HOST2), &late);
        assert_eq!(first(&backends).len(), 2);
        backends.note(at(HOST2), &late);
        assert_eq!(first(&backends), [at(HOST3)].into());
        assert_eq!(backends.order(0).len(), 2, "better one that says no than none");
        backends.note(at(HOST2), &ready);
        assert_eq!(first(&backends), [at(HOST3)].into());
        backends.note(at(HOST2), &ready);
        assert_eq!(first(&backends).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_loses_its_connections_and_gets_new_ones_when_it_is_back() {
        let (mut backends, silent) = (backends(), Health::Silent("no answer".into()));
        let cut = cut_of(&backends, HOST2);
        backends.note(at(HOST2), &silent);
        assert!(!cut.is_cancelled(), "it may only be slow");
        tokio::time::advance(SILENT_LIMIT).await;
        backends.note(at(HOST2), &silent);
        assert!(cut.is_cancelled());
        backends.note(at(HOST2), &Health::Ready);
        backends.note(at(HOST2), &Health::Ready);
        assert!(!cut_of(&backends, HOST2).is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_a_server_that_is_not_ready_are_cut_only_for_a_better_one() {
        let (mut backends, not_ready) = (backends(), Health::NotReady("status 500".into()));
        let cut = cut_of(&backends, HOST2);
        for host in [HOST2, HOST3, HOST2, HOST3] {
            backends.note(at(host), &not_ready);
        }
        tokio::time::advance(NOT_READY_LIMIT).await;
        backends.note(at(HOST2), &not_ready);
        assert!(!cut.is_cancelled(), "nobody is better");
        backends.note(at(HOST3), &Health::Ready);
        backends.note(at(HOST3), &Health::Ready);
        backends.note(at(HOST2), &not_ready);
        assert!(cut.is_cancelled());
    }
}
