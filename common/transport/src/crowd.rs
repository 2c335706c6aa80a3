//! This module owns [`Crowd`]: the peers that have knocked and not proven themselves yet, bounded and fair per
//! address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{MAX_HANDSHAKES, MAX_HANDSHAKES_PER_ADDRESS};

/// Who is between knocking and being let in, by address.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// A place in the crowd, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    from: IpAddr,
}

impl Crowd {
    /// A place for somebody at `from`; none when there are too many, in all or from there.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let from = from.to_canonical();
        let mut present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if present.values().sum::<usize>() >= MAX_HANDSHAKES {
            return None;
        }
        let here = present.entry(from).or_default();
        if *here >= MAX_HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *here += 1;
        drop(present);
        Some(Place {
            crowd: Arc::clone(self),
            from,
        })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut present = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = present.get_mut(&self.from) {
            *here -= 1;
            if *here == 0 {
                present.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_room_for_others_and_places_come_back() {
        let crowd = Arc::new(Crowd::default());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let held: Vec<Place> = (0..MAX_HANDSHAKES_PER_ADDRESS)
            .map(|_| crowd.enter(address(1)).unwrap())
            .collect();
        assert!(crowd.enter(address(1)).is_none());
        let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert!(
            crowd.enter(IpAddr::V6(mapped)).is_none(),
            "the same address, written another way"
        );
        assert!(crowd.enter(address(2)).is_some());
        drop(held);
        assert_eq!(crowd.len(), 0);
        let all: Vec<Place> = (0..=u8::MAX)
            .filter_map(|last| crowd.enter(address(last)))
            .collect();
        assert_eq!(all.len(), MAX_HANDSHAKES);
    }
}
