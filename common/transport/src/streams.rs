//! This module owns [`SendStream`] and [`RecvStream`]: messages and raw bytes on one stream.

use bytes::{Bytes, BytesMut};
use gantry_protocol::codec::{HEADER_LEN, body_len, decode_body, encode};
use gantry_protocol::{CloseCode, CodecError, Message};
use quinn::{ReadError, VarInt, WriteError};

use crate::closed::Closed;
use crate::tcp::TcpStream;

/// Room made at once for bytes that were only announced.
const FIRST_ROOM: usize = 64 << 10;

/// Why a stream operation did not work.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection is gone.
    #[error("the connection ended: {0}")]
    Closed(Closed),
    /// The peer reset or stopped this stream.
    #[error("the peer ended the stream: {0}")]
    Ended(CloseCode),
    /// The stream ended where a message or more bytes were due.
    #[error("the stream ended early")]
    Early,
    /// What came is not the message that was due, or the message to send is too long.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// The sending half of a stream. Dropping it unfinished finishes it.
#[derive(Debug)]
pub struct SendStream(SendHalf);

#[derive(Debug)]
enum SendHalf {
    Quic(quinn::SendStream),
    Tcp(TcpStream),
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct RecvStream(RecvHalf);

#[derive(Debug)]
enum RecvHalf {
    Quic(quinn::RecvStream),
    Tcp(TcpStream),
}

impl SendStream {
    pub(crate) const fn quic(stream: quinn::SendStream) -> Self {
        Self(SendHalf::Quic(stream))
    }

    pub(crate) const fn tcp(stream: TcpStream) -> Self {
        Self(SendHalf::Tcp(stream))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When it is too long, the peer stopped the stream, or the connection is gone.
    pub async fn send<M: Message>(&mut self, message: &M) -> Result<(), StreamError> {
        self.write_bytes(encode(message)?.into()).await
    }

    /// Sends raw bytes, without copying them on QUIC. Waits while the peer takes no more.
    ///
    /// # Errors
    /// When the peer stopped the stream or the connection is gone.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match &mut self.0 {
            SendHalf::Quic(stream) => stream.write_chunk(bytes).await.map_err(write_error),
            SendHalf::Tcp(stream) => stream.write_all(&bytes).await,
        }
    }

    /// Says that nothing more comes. What was sent is still delivered while the connection lives.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        match &mut self.0 {
            // An error says only that the peer stopped the stream: nobody waits for its end.
            SendHalf::Quic(stream) => {
                let _ = stream.finish();
                Ok(())
            }
            SendHalf::Tcp(stream) => stream.finish().await,
        }
    }

    /// Waits until the peer has everything up to [`Self::finish`], or wants no more of it. On TCP this returns
    /// at once.
    pub async fn delivered(&mut self) {
        if let SendHalf::Quic(stream) = &mut self.0 {
            let _ = stream.stopped().await;
        }
    }

    /// Gives the stream up. Over TCP the receiving half ends with it, and the peer sees an early end, not a code.
    pub fn reset(&mut self, code: CloseCode) {
        match &mut self.0 {
            SendHalf::Quic(stream) => {
                let _ = stream.reset(VarInt::from_u32(code as u32));
            }
            SendHalf::Tcp(stream) => stream.abandon(),
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if let SendHalf::Tcp(stream) = &self.0 {
            stream.finish_in_background();
        }
    }
}

impl RecvStream {
    pub(crate) const fn quic(stream: quinn::RecvStream) -> Self {
        Self(RecvHalf::Quic(stream))
    }

    pub(crate) const fn tcp(stream: TcpStream) -> Self {
        Self(RecvHalf::Tcp(stream))
    }

    /// The next message. Not cancel safe.
    ///
    /// # Errors
    /// When another message or none came, the peer reset the stream, or the connection is gone.
    pub async fn recv<M: Message>(&mut self) -> Result<M, StreamError> {
        self.recv_or_end().await?.ok_or(StreamError::Early)
    }

    /// The next message, or none when the stream ended before it began. Not cancel safe.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub async fn recv_or_end<M: Message>(&mut self) -> Result<Option<M>, StreamError> {
        self.recv_within(usize::MAX).await
    }

    /// The same, refusing a message longer than `max`.
    pub(crate) async fn recv_within<M: Message>(&mut self, max: usize) -> Result<Option<M>, StreamError> {
        let Some(first) = self.read_chunk(HEADER_LEN).await? else {
            return Ok(None);
        };
        let mut header = [0; HEADER_LEN];
        header[..first.len()].copy_from_slice(&first);
        let rest = self.read_exact(HEADER_LEN - first.len()).await?;
        header[first.len()..].copy_from_slice(&rest);
        let len = body_len::<M>(header)?;
        if len > max {
            return Err(CodecError::TooLong { len }.into());
        }
        Ok(Some(decode_body(&self.read_exact(len).await?)?))
    }

    /// The next piece of raw bytes, at most `max` long, without copying on QUIC; none at the end. Cancel safe.
    ///
    /// Over TCP the end of a stream and its being reset look the same: count what must come.
    ///
    /// # Errors
    /// When the peer reset the stream or the connection is gone.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        match &mut self.0 {
            RecvHalf::Quic(stream) => {
                let chunk = stream.read_chunk(max, true).await.map_err(read_error)?;
                Ok(chunk.map(|chunk| chunk.bytes))
            }
            RecvHalf::Tcp(stream) => stream.read(max).await,
        }
    }

    /// Fills the front of `room` with raw bytes, as many as are there; how many, 0 at the end or when `room` is
    /// empty. What belongs together in memory is cheaper read this way than piece by piece. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::read_chunk`].
    pub async fn read_into(&mut self, room: &mut [u8]) -> Result<usize, StreamError> {
        if room.is_empty() {
            return Ok(0);
        }
        match &mut self.0 {
            RecvHalf::Quic(stream) => Ok(stream.read(room).await.map_err(read_error)?.unwrap_or(0)),
            RecvHalf::Tcp(stream) => stream.read_into(room).await,
        }
    }

    /// Exactly `len` raw bytes. The caller bounds `len`. Not cancel safe.
    ///
    /// # Errors
    /// [`StreamError::Early`] when the stream ended before; else as [`Self::read_chunk`].
    pub async fn read_exact(&mut self, len: usize) -> Result<Bytes, StreamError> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let first = self.read_chunk(len).await?.ok_or(StreamError::Early)?;
        if first.len() == len {
            return Ok(first);
        }
        // What was only announced is not paid for in advance.
        let mut bytes = BytesMut::with_capacity(len.min(FIRST_ROOM.max(first.len() * 2)));
        bytes.extend_from_slice(&first);
        while bytes.len() < len {
            let piece = self
                .read_chunk(len - bytes.len())
                .await?
                .ok_or(StreamError::Early)?;
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Tells the peer that no more is needed. Over TCP the sending half ends with it.
    pub fn stop(&mut self, code: CloseCode) {
        match &mut self.0 {
            RecvHalf::Quic(stream) => {
                let _ = stream.stop(VarInt::from_u32(code as u32));
            }
            RecvHalf::Tcp(stream) => stream.abandon(),
        }
    }
}

fn code(number: VarInt) -> CloseCode {
    CloseCode::from_number(number.into_inner()).unwrap_or(CloseCode::Internal)
}

fn write_error(error: WriteError) -> StreamError {
    match error {
        WriteError::Stopped(number) => StreamError::Ended(code(number)),
        WriteError::ConnectionLost(error) => StreamError::Closed(error.into()),
        other @ (WriteError::ClosedStream | WriteError::ZeroRttRejected) => {
            StreamError::Closed(Closed::lost(other))
        }
    }
}

fn read_error(error: ReadError) -> StreamError {
    match error {
        ReadError::Reset(number) => StreamError::Ended(code(number)),
        ReadError::ConnectionLost(error) => StreamError::Closed(error.into()),
        other => StreamError::Closed(Closed::lost(other)),
    }
}
