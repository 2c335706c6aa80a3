//! This module owns [`Body`]: what an answer consists of, a file read piece by piece as its client takes it.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;

use futures_util::{TryStreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};

use super::connection::Progress;

/// Bytes of a file in memory at a time, for each connection.
const PIECE: u64 = 256 << 10;

/// What an answer consists of.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// These bytes.
pub(super) fn text(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The next `len` bytes of `file`. A file that ends before that cuts the connection.
pub(super) fn file(file: File, len: u64, progress: Arc<Progress>) -> Body {
    let pieces = stream::try_unfold((file, len), move |(file, left)| {
        let progress = Arc::clone(&progress);
        async move {
            progress.note();
            if left == 0 {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || read_piece(file, left));
            let (file, piece) = read.await.map_err(io::Error::other)??;
            let left = left - piece.len() as u64;
            Ok(Some((Frame::data(piece), (file, left))))
        }
    });
    StreamBody::new(pieces.map_err(|error: io::Error| {
        tracing::error!("cannot read a blob: {error}");
        error
    }))
    .boxed_unsync()
}

fn read_piece(mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    let len = usize::try_from(left.min(PIECE)).map_err(io::Error::other)?;
    let mut piece = vec![0; len];
    file.read_exact(&mut piece)?;
    Ok((file, piece.into()))
}
