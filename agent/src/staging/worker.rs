//! The disk's half: threads that decompress, verify and write whole batches of chunks.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use gantry_protocol::transfer::LayerIndex;
use gantry_store::{ReceiveError, Scratch};
use tokio::sync::mpsc::UnboundedSender;

use super::buffers::Buffer;
use super::layer::Arriving;
use super::limits::{BUFFER_LEN, CHUNKS_PER_BATCH, WORKERS};

/// Chunks that lie one after the other in a buffer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) layer: Arc<Arriving>,
    /// Each chunk with its compressed length.
    pub(super) chunks: Vec<(u32, u32)>,
    pub(super) buffer: Buffer,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Written {
    /// All of it is verified and in place.
    Accepted {
        layer: LayerIndex,
        chunks: u64,
        /// Compressed.
        bytes: u64,
    },
    /// A chunk was not what it should be, or the disk failed. The chunks before it are in place.
    Failed(ReceiveError),
}

/// Cuts the chunks of a fetch into batches: many small ones are handed over together, so that two thousand small
/// files do not wake a thread two thousand times.
pub(super) fn batches(chunks: &[(u32, u32)]) -> impl Iterator<Item = &[(u32, u32)]> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(CHUNKS_PER_BATCH).take_while(|&&(_, length)| {
            bytes += length as usize;
            bytes <= BUFFER_LEN
        });
        // At least one, or this would never end; tables of contents have none that does not fit.
        let count = fitting.count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(count);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

/// The worker threads of one stage. They end when every sender of batches is gone and the last batch is written.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them: batches go in, what became of them comes out.
    pub(super) fn start(written: &UnboundedSender<Written>) -> io::Result<(Self, Sender<Batch>)> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..WORKERS)
            .map(|number| {
                let (receiver, written) = (Arc::clone(&receiver), written.clone());
                thread::Builder::new()
                    .name(format!("stage-{number}"))
                    .spawn(move || work(&receiver, &written))
            })
            .collect::<io::Result<_>>()?;
        Ok((Self { threads }, sender))
    }

    /// Waits for the threads. Blocks. The caller has dropped every sender of batches.
    pub(super) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a staging thread panicked");
            }
        }
    }
}

fn work(batches: &Mutex<Receiver<Batch>>, written: &UnboundedSender<Written>) {
    let mut scratch = Scratch::new();
    loop {
        // The lock is held while waiting: the others wait for the lock instead, which costs them nothing.
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return };
        // The batch is gone, and with it its hold on the layer, before anybody is told: a layer whose last batch was
        // accepted can be finished at once.
        let outcome = write(batch, &mut scratch);
        if written.send(outcome).is_err() {
            return;
        }
    }
}

fn write(batch: Batch, scratch: &mut Scratch) -> Written {
    let Batch {
        layer,
        chunks,
        buffer,
    } = batch;
    let mut rest = buffer.bytes();
    for &(chunk, length) in &chunks {
        let (compressed, after) = rest.split_at(length as usize);
        rest = after;
        if let Err(error) = layer.receiver.accept(chunk, compressed, scratch) {
            return Written::Failed(error);
        }
    }
    Written::Accepted {
        layer: layer.index,
        chunks: chunks.len() as u64,
        bytes: chunks.iter().map(|&(_, length)| u64::from(length)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fill_a_buffer_with_whole_chunks() {
        let half = BUFFER_LEN as u32 / 2;
        let chunks = [(0, half), (1, half), (2, half), (3, BUFFER_LEN as u32), (4, 1)];
        let cut: Vec<&[(u32, u32)]> = batches(&chunks).collect();
        assert_eq!(cut, [&chunks[..2], &chunks[2..3], &chunks[3..4], &chunks[4..]]);
        assert_eq!(batches(&[]).count(), 0);
    }

    #[test]
    fn small_files_travel_together() {
        let chunks: Vec<(u32, u32)> = (0..2000).map(|chunk| (chunk, 100)).collect();
        assert_eq!(batches(&chunks).count(), 2000_usize.div_ceil(CHUNKS_PER_BATCH));
        assert_eq!(batches(&chunks).map(<[_]>::len).sum::<usize>(), 2000);
    }
}
