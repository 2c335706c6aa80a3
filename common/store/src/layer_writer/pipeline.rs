//! The threads that make a blob: they take the tar stream piece by piece and hash, compress and write it at once.
//!
//! ```text
//!                 ┌─▶ hasher: diff_id of the tar stream, digests of files of several chunks
//! caller ── piece ┤
//!                 └─▶ compressors (one per core): frame, digest of the chunk ─▶ collector: blob, in order
//! ```
//!
//! Every queue is bounded, so memory does not depend on the size of the layer.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use gantry_model::Digest;
use sha2::{Digest as _, Sha256};

use super::frame::FrameMaker;
use crate::toc::{BLAKE3_FROM, Blake3};
use crate::{BlobWriter, LayerError, StoreError};

/// Most compressor threads: above that, reading and the two hashes in a row are the limit.
const MAX_COMPRESSORS: usize = 16;

/// What a piece of the tar stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Headers and padding: not in the table of contents.
    Headers,
    /// A chunk of a file; `last` when the file ends with it.
    Content {
        /// The file has only this chunk.
        alone: bool,
        /// The file ends with it.
        last: bool,
    },
}

/// Where a chunk of a file came to lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) digests: Digests,
}

/// What the table of contents says of a chunk's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digests {
    pub(super) sha256: Digest,
    pub(super) blake3: Option<Blake3>,
}

impl Digests {
    fn of(bytes: &[u8]) -> Self {
        Self {
            sha256: Digest::of(bytes),
            blake3: (bytes.len() >= BLAKE3_FROM).then(|| Blake3::of(bytes)),
        }
    }
}

/// What the pipeline found out.
pub(super) struct Outcome {
    pub(super) blob: BlobWriter,
    pub(super) diff_id: Digest,
    /// One per [`Piece::Content`], in the order they were given.
    pub(super) frames: Vec<Frame>,
    /// Digests of files that have several chunks, in the order they were given.
    pub(super) files: Vec<Digest>,
}

/// A frame on its way to the collector, which receives the outcomes in the order of the pieces.
type Pending = Receiver<std::io::Result<(Vec<u8>, Option<Digests>)>>;

struct Job {
    bytes: Arc<Vec<u8>>,
    piece: Piece,
    done: SyncSender<std::io::Result<(Vec<u8>, Option<Digests>)>>,
}

/// The running threads.
pub(super) struct Pipeline {
    jobs: SyncSender<Job>,
    pending: SyncSender<Pending>,
    hashes: SyncSender<(Arc<Vec<u8>>, Piece)>,
    compressors: Vec<JoinHandle<()>>,
    collector: JoinHandle<Result<(BlobWriter, Vec<Frame>), LayerError>>,
    hasher: JoinHandle<(Digest, Vec<Digest>)>,
}

impl Pipeline {
    /// Starts the threads; the blob goes into `blob`.
    pub(super) fn start(blob: BlobWriter) -> Result<Self, LayerError> {
        let count = thread::available_parallelism()
            .map_or(2, usize::from)
            .clamp(2, MAX_COMPRESSORS);
        let in_flight = 2 * count + 2;
        let (jobs, job_queue) = sync_channel(count);
        let (pending, pending_queue) = sync_channel(in_flight);
        let (hashes, hash_queue) = sync_channel(in_flight);
        let job_queue = Arc::new(Mutex::new(job_queue));
        let path = blob.path().to_owned();
        let failed = |source| LayerError::Io {
            action: "start a thread to write",
            path: path.clone(),
            source,
        };
        let compressors = (0..count)
            .map(|_| {
                let queue = Arc::clone(&job_queue);
                spawn("layer-compress", move || compress(&queue)).map_err(failed)
            })
            .collect::<Result<_, _>>()?;
        let collector = spawn("layer-write", move || collect(blob, &pending_queue)).map_err(failed)?;
        let hasher = spawn("layer-hash", move || hash(&hash_queue)).map_err(failed)?;
        Ok(Self {
            jobs,
            pending,
            hashes,
            compressors,
            collector,
            hasher,
        })
    }

    /// Hands in the next piece of the tar stream. Waits while the queues are full. False when the collector has
    /// stopped, which [`Pipeline::finish`] explains.
    pub(super) fn push(&self, bytes: Vec<u8>, piece: Piece) -> bool {
        let bytes = Arc::new(bytes);
        let (done, pending) = sync_channel(1);
        self.pending.send(pending).is_ok()
            && self.hashes.send((Arc::clone(&bytes), piece)).is_ok()
            && self.jobs.send(Job { bytes, piece, done }).is_ok()
    }

    /// Waits for the threads to end; nothing is left of the blob then.
    pub(super) fn give_up(self) {
        let Self {
            jobs,
            pending,
            hashes,
            compressors,
            collector,
            hasher,
        } = self;
        drop((jobs, pending, hashes));
        let _ = collector.join();
        let _ = hasher.join();
        for compressor in compressors {
            let _ = compressor.join();
        }
    }

    /// Waits for everything handed in to be in the blob.
    pub(super) fn finish(self) -> Result<Outcome, LayerError> {
        let Self {
            jobs,
            pending,
            hashes,
            compressors,
            collector,
            hasher,
        } = self;
        drop((jobs, pending, hashes));
        let (blob, frames) = join(collector)?;
        let (diff_id, files) = join(hasher);
        for compressor in compressors {
            join(compressor);
        }
        Ok(Outcome {
            blob,
            diff_id,
            frames,
            files,
        })
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// A thread's result. A panic in it goes on here, as if there were no threads.
fn join<T>(thread: JoinHandle<T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn compress(queue: &Mutex<Receiver<Job>>) {
    let mut maker = FrameMaker::new();
    loop {
        // The lock is held while waiting: whoever holds it takes the next job.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let frame = match &mut maker {
            Ok(maker) => maker.frame(&job.bytes).map(|frame| {
                let content = matches!(job.piece, Piece::Content { .. });
                (frame, content.then(|| Digests::of(&job.bytes)))
            }),
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        // The collector has stopped: nobody wants the rest.
        if job.done.send(frame).is_err() {
            return;
        }
    }
}

fn collect(mut blob: BlobWriter, queue: &Receiver<Pending>) -> Result<(BlobWriter, Vec<Frame>), LayerError> {
    let mut frames = Vec::new();
    for pending in queue {
        // Without an outcome, the caller gave up between announcing and handing in.
        let Ok(frame) = pending.recv() else { break };
        let path = blob.path().to_owned();
        let (frame, digests) = frame.map_err(StoreError::io("compress into", &path))?;
        if let Some(digests) = digests {
            frames.push(Frame {
                offset: blob.len(),
                len: frame.len() as u32,
                digests,
            });
        }
        blob.write_all(&frame).map_err(StoreError::io("write", &path))?;
    }
    Ok((blob, frames))
}

fn hash(queue: &Receiver<(Arc<Vec<u8>>, Piece)>) -> (Digest, Vec<Digest>) {
    let (mut tar, mut file, mut files) = (Sha256::new(), Sha256::new(), Vec::new());
    for (bytes, piece) in queue {
        tar.update(&*bytes);
        if let Piece::Content { alone: false, last } = piece {
            file.update(&*bytes);
            if last {
                files.push(Digest::from_bytes(file.finalize_reset().into()));
            }
        }
    }
    (Digest::from_bytes(tar.finalize().into()), files)
}
