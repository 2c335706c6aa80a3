//! The receiver's side of a transfer: what to ask for next, what is on its way, which layer is whole.
//!
//! Pure bookkeeping: whoever runs it opens the streams, reads the bytes and tells it what happened.
//!
//! ```text
//!   next_fetch() ─▶ open a stream, send the request, read its bytes
//!        ▲                │
//!        │    received() ─┤ all bytes came: the window has room again
//!        └────── failed() ┘ the rest is asked for anew
//!
//!   accepted() after each verified chunk; a layer is whole when all of its chunks are and no fetch of it is open
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use gantry_model::Digest;

use crate::fetch::{ChunkRange, FetchRequest};
use crate::limits::MAX_RANGES_PER_FETCH;
use crate::reply::{Refusal, RefusalKind};

/// How much is asked for at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Fetches open at the same time. Two keep the wire busy while one of them is being asked for.
    pub fetches: usize,
    /// Compressed bytes of one fetch; a fetch is larger only when its first chunk is.
    pub fetch_bytes: u64,
    /// Most chunks of one fetch.
    pub fetch_chunks: usize,
}

impl Default for Window {
    /// Four fetches of 8 MiB: at 10 Gb/s each lasts longer than a round trip around the world.
    fn default() -> Self {
        Self {
            fetches: 4,
            fetch_bytes: 8 << 20,
            fetch_chunks: 8192,
        }
    }
}

/// A layer to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLayer {
    /// Its digest.
    pub layer: Digest,
    /// The chunks to ask for, ascending, not overlapping.
    pub missing: Vec<Range<u32>>,
    /// The compressed length of each of them, in the same order.
    pub lengths: Vec<u32>,
}

/// One of [`WantedLayer`]s by its position in the list.
pub type LayerIndex = usize;
/// Names a fetch; never used twice in one transfer.
pub type FetchId = u64;

/// Something to ask for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Its name.
    pub id: FetchId,
    /// Which layer.
    pub layer: LayerIndex,
    /// What to send.
    pub request: FetchRequest,
    /// The chunks in the order their bytes come, each with its compressed length.
    pub chunks: Vec<(u32, u32)>,
    /// All bytes that follow the reply.
    pub bytes: u64,
}

/// The receiver's side of one transfer.
#[derive(Debug)]
pub struct Transfer {
    window: Window,
    layers: Vec<LayerState>,
    open: BTreeMap<FetchId, Fetch>,
    next_id: FetchId,
    wanted_bytes: u64,
}

#[derive(Debug)]
struct LayerState {
    layer: Digest,
    /// Chunks nobody was asked for yet, ascending, with their lengths.
    unasked: VecDeque<(u32, u32)>,
    unaccepted: u64,
    open_fetches: usize,
}

impl Transfer {
    /// A transfer of these layers, in this order.
    ///
    /// # Panics
    /// When a layer's `lengths` are not as many as its `missing` chunks: the caller made both from one table of contents.
    #[must_use]
    pub fn new(layers: Vec<WantedLayer>, window: Window) -> Self {
        let layers: Vec<LayerState> = layers.into_iter().map(LayerState::new).collect();
        let wanted_bytes = layers
            .iter()
            .flat_map(|layer| &layer.unasked)
            .map(|&(_, length)| u64::from(length))
            .sum();
        Self {
            window,
            layers,
            open: BTreeMap::new(),
            next_id: 0,
            wanted_bytes,
        }
    }

    /// Compressed bytes that travel when nothing fails.
    #[must_use]
    pub const fn wanted_bytes(&self) -> u64 {
        self.wanted_bytes
    }

    /// What to ask for now; none while the window is full or when everything was asked for.
    pub fn next_fetch(&mut self) -> Option<Fetch> {
        if self.open.len() >= self.window.fetches {
            return None;
        }
        let (index, layer) = self
            .layers
            .iter_mut()
            .enumerate()
            .find(|(_, layer)| !layer.unasked.is_empty())?;
        let (chunks, ranges, bytes) = layer.take(&self.window);
        layer.open_fetches += 1;
        let fetch = Fetch {
            id: self.next_id,
            layer: index,
            request: FetchRequest::Chunks {
                layer: layer.layer,
                ranges,
            },
            chunks,
            bytes,
        };
        self.next_id += 1;
        self.open.insert(fetch.id, fetch.clone());
        Some(fetch)
    }

    /// All bytes of a fetch came. A fetch that is not open is ignored.
    pub fn received(&mut self, id: FetchId) {
        if let Some(fetch) = self.open.remove(&id) {
            self.layers[fetch.layer].open_fetches -= 1;
        }
    }

    /// A fetch ended early, after its first `complete` chunks came whole. The others will be asked for again.
    pub fn failed(&mut self, id: FetchId, complete: usize) {
        let Some(fetch) = self.open.remove(&id) else {
            return;
        };
        let layer = &mut self.layers[fetch.layer];
        layer.open_fetches -= 1;
        layer.unasked.extend(fetch.chunks.iter().skip(complete));
        layer.unasked.make_contiguous().sort_unstable();
    }

    /// This many more chunks of a layer are verified and in place.
    ///
    /// # Panics
    /// When more are accepted than were asked for: the caller counts chunks of fetches only.
    pub fn accepted(&mut self, layer: LayerIndex, chunks: u64) {
        let layer = &mut self.layers[layer];
        layer.unaccepted = layer
            .unaccepted
            .checked_sub(chunks)
            .expect("only chunks that were asked for are accepted");
    }

    /// Whether all chunks of a layer are accepted and no fetch of it is open.
    #[must_use]
    pub fn is_whole(&self, layer: LayerIndex) -> bool {
        let layer = &self.layers[layer];
        layer.unaccepted == 0 && layer.open_fetches == 0
    }

    /// Whether every layer is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        (0..self.layers.len()).all(|layer| self.is_whole(layer))
    }
}

impl LayerState {
    fn new(wanted: WantedLayer) -> Self {
        let chunks: u64 = wanted
            .missing
            .iter()
            .map(|range| u64::from(range.end - range.start))
            .sum();
        assert_eq!(
            chunks,
            wanted.lengths.len() as u64,
            "one length for each missing chunk"
        );
        Self {
            layer: wanted.layer,
            unasked: wanted.missing.into_iter().flatten().zip(wanted.lengths).collect(),
            unaccepted: chunks,
            open_fetches: 0,
        }
    }

    /// Takes the next chunks off, as many as one fetch may carry and at least one.
    fn take(&mut self, window: &Window) -> (Vec<(u32, u32)>, Vec<ChunkRange>, u64) {
        let (mut chunks, mut ranges, mut bytes) = (Vec::new(), Vec::<ChunkRange>::new(), 0);
        while let Some(&(chunk, length)) = self.unasked.front() {
            let length_after = bytes + u64::from(length);
            let full = length_after > window.fetch_bytes || chunks.len() >= window.fetch_chunks;
            if full && !chunks.is_empty() {
                break;
            }
            let continued = ranges
                .last_mut()
                .filter(|range| range.first + range.count == chunk);
            if let Some(range) = continued {
                range.count += 1;
            } else if ranges.len() < MAX_RANGES_PER_FETCH {
                ranges.push(ChunkRange {
                    first: chunk,
                    count: 1,
                });
            } else {
                break;
            }
            self.unasked.pop_front();
            chunks.push((chunk, length));
            bytes = length_after;
        }
        (chunks, ranges, bytes)
    }
}

/// The sender's check of what it is asked for: chunks of a layer that has `chunks` of them.
///
/// # Errors
/// When there are no ranges or too many, one is empty or goes past the end, or they overlap or do not ascend.
pub fn check_ranges(ranges: &[ChunkRange], chunks: u32) -> Result<(), Refusal> {
    let invalid = |message: String| {
        Err(Refusal {
            kind: RefusalKind::Invalid,
            message,
        })
    };
    if ranges.is_empty() || ranges.len() > MAX_RANGES_PER_FETCH {
        return invalid(format!(
            "a fetch has 1 to {MAX_RANGES_PER_FETCH} chunk ranges, this one has {}",
            ranges.len()
        ));
    }
    let mut end = 0;
    for (position, range) in ranges.iter().enumerate() {
        if position > 0 && range.first < end {
            return invalid(format!(
                "chunk ranges must ascend without overlap, range {position} does not"
            ));
        }
        end = match range.first.checked_add(range.count) {
            Some(end) if range.count > 0 && end <= chunks => end,
            _ => {
                return invalid(format!(
                    "chunks {} + {} are not in this layer, which has {chunks}",
                    range.first, range.count
                ));
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::iter;

    use proptest::prelude::*;

    use super::*;

    fn range(first: u32, count: u32) -> ChunkRange {
        ChunkRange { first, count }
    }

    fn layer(name: &[u8], missing: impl IntoIterator<Item = Range<u32>>, length: u32) -> WantedLayer {
        let missing: Vec<Range<u32>> = missing.into_iter().collect();
        let count = missing.iter().map(ExactSizeIterator::len).sum();
        WantedLayer {
            layer: Digest::of(name),
            missing,
            lengths: vec![length; count],
        }
    }

    const SMALL: Window = Window {
        fetches: 2,
        fetch_bytes: 100,
        fetch_chunks: 8,
    };

    #[test]
    fn fetches_are_cut_by_bytes_and_join_neighbours() {
        let mut transfer = Transfer::new(vec![layer(b"a", [0..2, 5..8], 30)], SMALL);
        assert_eq!(transfer.wanted_bytes(), 150);
        let first = transfer.next_fetch().unwrap();
        assert_eq!(first.bytes, 90);
        let FetchRequest::Chunks { ranges, .. } = first.request else {
            panic!("not chunks")
        };
        assert_eq!(ranges, [range(0, 2), range(5, 1)]);
        assert_eq!(transfer.next_fetch().unwrap().chunks, [(6, 30), (7, 30)]);
        assert!(transfer.next_fetch().is_none());
    }

    #[test]
    fn a_chunk_larger_than_a_fetch_travels_alone() {
        let mut transfer = Transfer::new(vec![layer(b"a", [0..1, 1..2], 500)], SMALL);
        assert_eq!(transfer.next_fetch().unwrap().chunks, [(0, 500)]);
    }

    #[test]
    fn the_next_layer_begins_while_the_last_bytes_of_the_one_before_are_on_their_way() {
        let mut transfer = Transfer::new(
            vec![layer(b"a", iter::once(0..1), 9), layer(b"b", iter::once(0..1), 9)],
            SMALL,
        );
        let (first, second) = (transfer.next_fetch().unwrap(), transfer.next_fetch().unwrap());
        assert_eq!((first.layer, second.layer), (0, 1));
        transfer.accepted(1, 1);
        transfer.received(second.id);
        assert!(transfer.is_whole(1) && !transfer.is_whole(0) && !transfer.is_done());
        transfer.received(first.id);
        transfer.accepted(0, 1);
        assert!(transfer.is_done());
    }

    #[test]
    fn a_layer_without_missing_chunks_is_whole_from_the_start() {
        let transfer = Transfer::new(vec![layer(b"a", [], 9)], SMALL);
        assert!(transfer.is_done());
    }

    #[test]
    fn requests_a_sender_cannot_answer_are_refused() {
        assert_eq!(check_ranges(&[range(0, 2), range(2, 1), range(7, 3)], 10), Ok(()));
        let too_many = vec![range(0, 1); MAX_RANGES_PER_FETCH + 1];
        for wrong in [
            &[][..],
            &too_many,
            &[range(0, 0)],
            &[range(9, 2)],
            &[range(u32::MAX, 2)],
            &[range(3, 2), range(4, 1)],
            &[range(3, 1), range(1, 1)],
        ] {
            assert_eq!(
                check_ranges(wrong, 10).unwrap_err().kind,
                RefusalKind::Invalid,
                "{wrong:?}"
            );
        }
    }

    proptest! {
        /// Whatever the order in which fetches end or fail: each chunk that came is never asked for again, every
        /// other one is, requests are well formed, and the window holds.
        #[test]
        fn everything_arrives_once(
            gaps in prop::collection::vec((0_u32..4, 1_u32..40), 1..30),
            length in 1_u32..60,
            script in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0_usize..9), 0..60),
        ) {
            let mut missing = Vec::new();
            let mut at = 0;
            for (gap, count) in gaps {
                missing.push(at + gap..at + gap + count);
                at += gap + count;
            }
            let all: BTreeSet<u32> = missing.iter().cloned().flatten().collect();
            let mut transfer = Transfer::new(vec![layer(b"a", missing, length)], SMALL);
            let (mut open, mut came) = (Vec::<Fetch>::new(), BTreeSet::new());
            let mut script = script.into_iter();
            while !transfer.is_done() {
                while let Some(fetch) = transfer.next_fetch() {
                    let FetchRequest::Chunks { ranges, .. } = &fetch.request else { panic!("not chunks") };
                    check_ranges(ranges, at).unwrap();
                    prop_assert!(fetch.bytes <= SMALL.fetch_bytes || fetch.chunks.len() == 1);
                    prop_assert!(fetch.chunks.iter().all(|(chunk, _)| !came.contains(chunk)));
                    open.push(fetch);
                    prop_assert!(open.len() <= SMALL.fetches);
                }
                let (index, fails, complete) = script.next().map_or((0, false, 0), |(index, fails, complete)| {
                    (index.index(open.len()), fails, complete)
                });
                let fetch = open.swap_remove(index);
                let complete = if fails { complete.min(fetch.chunks.len()) } else { fetch.chunks.len() };
                if fails { transfer.failed(fetch.id, complete) } else { transfer.received(fetch.id) }
                transfer.accepted(0, complete as u64);
                for (chunk, _) in &fetch.chunks[..complete] {
                    prop_assert!(came.insert(*chunk), "chunk {} came twice", chunk);
                }
            }
            prop_assert_eq!(came, all);
        }
    }
}
