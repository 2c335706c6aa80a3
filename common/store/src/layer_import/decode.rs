//! Compressed bytes → tar bytes, in a thread of their own: gzip decodes slower than everything after it.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::bufread::MultiGzDecoder;

use crate::LayerError;
use crate::limits::MAX_TAR_LEN;

/// Bytes handed from thread to thread at a time.
const PIECE_LEN: usize = 256 << 10;
/// Pieces on the way.
const QUEUE_LEN: usize = 8;

/// Calls `work` with the tar bytes in `compressed`, and gives its result.
pub(super) fn decoded<T>(
    compressed: impl Read + Send,
    work: impl FnOnce(&mut dyn Read) -> Result<T, LayerError>,
) -> Result<T, LayerError> {
    thread::scope(|scope| {
        let (pieces, queue) = sync_channel(QUEUE_LEN);
        scope.spawn(move || decode(compressed, &pieces));
        // Moved in: when `work` gives up, the queue goes, and the thread above ends.
        let mut reader = Pieces {
            queue,
            piece: Vec::new(),
            at: 0,
        };
        let result = work(&mut reader);
        drop(reader);
        result
    })
}

fn decode(compressed: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) {
    let mut compressed = BufReader::with_capacity(PIECE_LEN, compressed);
    let outcome = match format(&mut compressed) {
        Ok(Format::Gzip) => pass_on(MultiGzDecoder::new(compressed), pieces),
        Ok(Format::Zstd) => zstd::Decoder::with_buffer(compressed).and_then(|zstd| pass_on(zstd, pieces)),
        Ok(Format::Tar) => pass_on(compressed, pieces),
        Ok(Format::Unreadable(name)) => Err(io::Error::other(format!(
            "it is compressed with {name}; recompress it with gzip or zstd"
        ))),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        // Nobody listens any more when this fails.
        let _ = pieces.send(Err(error));
    }
}

fn pass_on(decoded: impl Read, pieces: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    let mut decoded = decoded.take(MAX_TAR_LEN);
    loop {
        let mut piece = Vec::with_capacity(PIECE_LEN);
        decoded.by_ref().take(PIECE_LEN as u64).read_to_end(&mut piece)?;
        if decoded.limit() == 0 {
            return Err(io::Error::other(format!(
                "it decompresses to more than {MAX_TAR_LEN} bytes"
            )));
        }
        if piece.is_empty() || pieces.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
}

/// How a tar stream is compressed.
pub(crate) enum Format {
    /// With gzip, in one or several members.
    Gzip,
    /// With zstd.
    Zstd,
    /// Not at all, as far as one can see.
    Tar,
    /// In this way, which is not read here.
    Unreadable(&'static str),
}

/// What the bytes are, by how they begin.
pub(crate) fn format(bytes: &mut impl BufRead) -> io::Result<Format> {
    let start = bytes.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Format::Gzip,
        // A frame, or one that decoders skip.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'B', b'Z', b'h', ..] => Format::Unreadable("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Format::Unreadable("xz"),
        _ => Format::Tar,
    })
}

struct Pieces {
    queue: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Ok(piece) = self.queue.recv() else {
                return Ok(0);
            };
            self.piece = piece?;
            self.at = 0;
        }
        let len = buffer.len().min(self.piece.len() - self.at);
        buffer[..len].copy_from_slice(&self.piece[self.at..][..len]);
        self.at += len;
        Ok(len)
    }
}
