//! This module owns [`Arriving`]: one layer on its way to this host.

use gantry_model::Digest;
use gantry_protocol::WantedLayer;
use gantry_protocol::transfer::LayerIndex;
use gantry_store::LayerReceiver;

/// A layer on its way to this host. Shared by the fetches and workers that are busy with it.
#[derive(Debug)]
pub(super) struct Arriving {
    /// Its place in the transfer.
    pub(super) index: LayerIndex,
    /// Its digest.
    pub(super) layer: Digest,
    /// What takes its chunks.
    pub(super) receiver: LayerReceiver,
}

impl Arriving {
    /// What the transfer has to ask for.
    pub(super) fn wanted(&self) -> WantedLayer {
        let missing = self.receiver.missing();
        let chunks = self.receiver.toc().chunks();
        let lengths = missing
            .iter()
            .flat_map(|range| &chunks[range.start as usize..range.end as usize])
            .map(|chunk| chunk.compressed_len)
            .collect();
        WantedLayer {
            layer: self.layer,
            missing,
            lengths,
        }
    }
}
