//! A layer's blob in this store → its unpacked folder, on all cores.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use gantry_model::LayerDescriptor;

use crate::limits::MAX_COMPRESSED_CHUNK_LEN;
use crate::{ChunkSource, LayerError, LayerReceiver, ReceiveError, Scratch, Store};

/// Most threads: above that, the disk is the limit.
const MAX_THREADS: usize = 8;

impl Store {
    /// Unpacks a layer from its blob in this store into `data/overlay2`. Does nothing when it is there.
    ///
    /// # Errors
    /// When the blob is missing or damaged, there is no room, or the file system fails.
    pub fn unpack_layer(&self, layer: &LayerDescriptor) -> Result<(), LayerError> {
        if self.has_layer(&layer.digest) {
            return Ok(());
        }
        let source = ChunkSource::open(self, &layer.digest)?;
        let receiver = match LayerReceiver::begin(self, layer, source.toc_bytes()) {
            Err(ReceiveError::AlreadyPresent { .. }) => return Ok(()),
            receiver => receiver?,
        };
        let chunks: Vec<u32> = receiver.missing().into_iter().flatten().collect();
        let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            let (mut scratch, mut buffer) = (Scratch::new(), vec![0; MAX_COMPRESSED_CHUNK_LEN as usize]);
            while !stop.load(Ordering::Relaxed) {
                let Some(&chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                if let Err(error) = unpack_chunk(self, &source, &receiver, chunk, &mut scratch, &mut buffer) {
                    stop.store(true, Ordering::Relaxed);
                    failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(error);
                }
            }
        };
        let threads = thread::available_parallelism()
            .map_or(2, usize::from)
            .min(MAX_THREADS);
        thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(receiver.finish()?),
        }
    }
}

fn unpack_chunk(
    store: &Store,
    source: &ChunkSource,
    receiver: &LayerReceiver,
    index: u32,
    scratch: &mut Scratch,
    buffer: &mut [u8],
) -> Result<(), LayerError> {
    let chunk = receiver.toc().chunks()[index as usize];
    let compressed = &mut buffer[..chunk.compressed_len as usize];
    let layer = receiver.layer();
    source
        .read_at(chunk.blob_offset, compressed)
        .map_err(LayerError::io("read", store.blobs().path(layer)))?;
    Ok(receiver.accept(index, compressed, scratch)?)
}
