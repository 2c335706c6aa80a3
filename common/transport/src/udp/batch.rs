//! This module owns [`Batch`]: datagrams of one size for one peer, which the kernel takes in one call and cuts
//! itself (`UDP_SEGMENT`, udp(7)).

use std::net::{IpAddr, SocketAddr};

use quinn::udp::{EcnCodepoint, Transmit};

use crate::limits::{MAX_SEGMENTS, MAX_UDP_DATAGRAM};

/// Datagrams that wait for more of their kind. All are `segment` bytes long, only the last one may be shorter.
#[derive(Debug, Default)]
pub(super) struct Batch {
    towards: Option<Towards>,
    /// Bytes of each datagram.
    segment: usize,
    contents: Vec<u8>,
    /// Bytes of `contents` that were sent.
    sent: usize,
}

/// What datagrams must have in common to leave together, besides their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Towards {
    destination: SocketAddr,
    ecn: Option<EcnCodepoint>,
    src_ip: Option<IpAddr>,
}

impl Towards {
    fn of(transmit: &Transmit<'_>) -> Self {
        Self {
            destination: transmit.destination,
            ecn: transmit.ecn,
            src_ip: transmit.src_ip,
        }
    }
}

/// Whether more of the same size may follow `transmit`: a sender that has run out of data ends with a shorter one.
pub(super) fn may_go_on(transmit: &Transmit<'_>) -> bool {
    transmit
        .segment_size
        .is_some_and(|segment| transmit.contents.len().is_multiple_of(segment))
}

/// Whether `transmit` fills a call: nothing could be added.
pub(super) fn is_whole_call(transmit: &Transmit<'_>) -> bool {
    transmit
        .segment_size
        .is_some_and(|segment| transmit.contents.len() == segment * most(segment))
}

/// How many datagrams of `segment` bytes one call may carry.
pub(super) fn most(segment: usize) -> usize {
    (MAX_UDP_DATAGRAM / segment.max(1)).clamp(1, MAX_SEGMENTS)
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.contents.len()
    }

    /// Whether `transmit` can be added behind what waits.
    pub(super) fn takes(&self, transmit: &Transmit<'_>) -> bool {
        let waiting = self.contents.len() - self.sent;
        waiting == 0
            || self.towards == Some(Towards::of(transmit))
                && transmit
                    .segment_size
                    .map_or(transmit.contents.len() <= self.segment, |segment| {
                        segment == self.segment
                    })
                && waiting.is_multiple_of(self.segment)
                && waiting < self.segment * most(self.segment)
    }

    /// Adds what [`Self::takes`] said yes to.
    pub(super) fn add(&mut self, transmit: &Transmit<'_>) {
        if self.is_empty() {
            self.contents.clear();
            self.sent = 0;
            self.towards = Some(Towards::of(transmit));
            self.segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        }
        self.contents.extend_from_slice(transmit.contents);
    }

    /// Sends by `send` what fills whole calls, and with `all` the rest too. What could not be sent stays.
    pub(super) fn flush<E>(
        &mut self,
        all: bool,
        mut send: impl FnMut(&Transmit<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(towards) = self.towards else {
            return Ok(());
        };
        let full = self.segment * most(self.segment);
        while !self.is_empty() {
            let waiting = &self.contents[self.sent..];
            if waiting.len() < full && !all {
                break;
            }
            let piece = &waiting[..waiting.len().min(full)];
            send(&Transmit {
                destination: towards.destination,
                ecn: towards.ecn,
                contents: piece,
                segment_size: (piece.len() > self.segment).then_some(self.segment),
                src_ip: towards.src_ip,
            })?;
            self.sent += piece.len();
        }
        // At most one transmit's worth is left: cheap to move.
        self.contents.drain(..self.sent);
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1:7443";
    const SEGMENT: usize = 1000;

    fn transmit<'a>(contents: &'a [u8], segment: Option<usize>, to: &str) -> Transmit<'a> {
        Transmit {
            destination: to.parse().unwrap(),
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: None,
        }
    }

    /// What a kernel that is never busy gets: contents and segment size of every call.
    fn flush(batch: &mut Batch, all: bool) -> Vec<(Vec<u8>, Option<usize>)> {
        let mut calls = Vec::new();
        let sent = batch.flush(all, |transmit| {
            calls.push((transmit.contents.to_vec(), transmit.segment_size));
            Ok::<_, ()>(())
        });
        assert_eq!(sent, Ok(()));
        calls
    }

    #[test]
    fn bursts_of_ten_become_calls_as_large_as_the_kernel_takes() {
        let (mut batch, mut calls) = (Batch::default(), Vec::new());
        let burst = vec![7; 10 * SEGMENT];
        for _ in 0..13 {
            let burst = transmit(&burst, Some(SEGMENT), PEER);
            assert!(batch.takes(&burst) && may_go_on(&burst));
            batch.add(&burst);
            calls.extend(flush(&mut batch, false));
        }
        calls.extend(flush(&mut batch, true));
        assert!(batch.is_empty());
        let lens: Vec<usize> = calls
            .iter()
            .map(|(contents, _)| contents.len() / SEGMENT)
            .collect();
        assert_eq!(lens, [64, 64, 2]);
        assert!(calls.iter().all(|(_, segment)| *segment == Some(SEGMENT)));
    }

    #[test]
    fn jumbo_bursts_are_cut_to_what_one_datagram_may_hold() {
        let mut batch = Batch::default();
        let burst = vec![7; 10 * 8972];
        batch.add(&transmit(&burst, Some(8972), PEER));
        let lens: Vec<usize> = flush(&mut batch, true).iter().map(|(c, _)| c.len()).collect();
        assert_eq!(lens, [7 * 8972, 3 * 8972]);
        assert!(lens.iter().all(|len| *len <= MAX_UDP_DATAGRAM));
    }

    #[test]
    fn a_call_of_jumbo_frames_is_whole_at_seven() {
        let burst = vec![7; 7 * 8972];
        assert!(is_whole_call(&transmit(&burst, Some(8972), PEER)));
        assert!(!is_whole_call(&transmit(&burst[..6 * 8972], Some(8972), PEER)));
        assert!(!is_whole_call(&transmit(&burst[..8972], None, PEER)));
        assert!(!is_whole_call(&transmit(
            &burst[..10 * SEGMENT],
            Some(SEGMENT),
            PEER
        )));
    }

    #[test]
    fn nothing_follows_a_short_datagram_or_goes_to_the_wrong_peer() {
        let mut batch = Batch::default();
        let (full, short) = (vec![1; 2 * SEGMENT], vec![2; 300]);
        batch.add(&transmit(&full, Some(SEGMENT), PEER));
        assert!(!batch.takes(&transmit(&full, Some(SEGMENT), "10.0.0.2:7443")));
        assert!(!batch.takes(&transmit(&full, Some(SEGMENT - 1), PEER)));
        assert!(
            !batch.takes(&transmit(&full, None, PEER)),
            "longer than a segment"
        );
        let last = transmit(&short, None, PEER);
        assert!(batch.takes(&last) && !may_go_on(&last));
        batch.add(&last);
        assert!(!batch.takes(&last), "the short one is the last");
        assert_eq!(flush(&mut batch, true).len(), 1);
    }

    #[test]
    fn what_a_busy_kernel_does_not_take_is_sent_once_it_does() {
        let mut batch = Batch::default();
        let burst: Vec<u8> = (0..100 * SEGMENT).map(|at| (at / SEGMENT) as u8).collect();
        batch.add(&transmit(&burst, Some(SEGMENT), PEER));
        let (mut sent, mut calls) = (Vec::new(), 0);
        while !batch.is_empty() {
            calls += 1;
            let _ = batch.flush(true, |transmit| {
                calls += 1;
                if calls % 3 == 0 {
                    return Err(());
                }
                sent.extend_from_slice(transmit.contents);
                Ok(())
            });
        }
        assert_eq!(sent, burst);
    }
}
