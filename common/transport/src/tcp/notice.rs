//! Close notices: yamux has neither codes nor reasons, so one stream is kept for them.

use std::io;
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use gantry_protocol::CloseCode;
use tokio::sync::{oneshot, watch};

use super::Side;
use crate::closed::Closed;
use crate::limits::MAX_REASON_LEN;

/// How long the closing side waits for the other to close too.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// First byte on the stream that carries close notices.
const NOTICE_STREAM: u8 = 0xC1;

/// Carries close notices both ways; returns when the connection is to be closed.
pub(super) async fn exchange_notices(
    stream: oneshot::Receiver<yamux::Stream>,
    side: Side,
    mut notice: watch::Receiver<Option<Closed>>,
    closed: watch::Sender<Option<Closed>>,
) {
    let orphaned = "every handle is gone";
    let mut local = async move || match notice.wait_for(Option::is_some).await {
        Ok(notice) => notice
            .clone()
            .unwrap_or_else(|| Closed::local(CloseCode::Done, "")),
        Err(_) => Closed::local(CloseCode::Done, orphaned),
    };
    let stream = tokio::select! {
        stream = stream => stream,
        notice = local() => {
            closed.send_replace(Some(notice));
            return;
        }
    };
    // The connection ended before it began; its task says how.
    let Ok(stream) = stream else {
        return std::future::pending().await;
    };
    let (mut read, mut write) = stream.split();
    // yamux tells the peer of a stream with its first bytes.
    if side == Side::Dialled && write.write_all(&[NOTICE_STREAM]).await.is_err() {
        return std::future::pending().await;
    }
    let theirs = async {
        if side == Side::Accepted {
            let mut mark = [0];
            read.read_exact(&mut mark).await?;
            if mark != [NOTICE_STREAM] {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        read_notice(&mut read).await
    };
    let mut theirs = std::pin::pin!(theirs);
    tokio::select! {
        notice = local() => {
            let code = notice.code.unwrap_or(CloseCode::Done);
            let text = notice.reason.clone();
            closed.send_replace(Some(notice));
            if write_notice(&mut write, code, &text).await.is_ok() {
                // Closing at once could make the kernel throw the notice away with unread bytes.
                let _ = tokio::time::timeout(CLOSE_TIME, theirs).await;
            }
        }
        notice = &mut theirs => match notice {
            Ok(notice) => {
                closed.send_replace(Some(notice));
            }
            // The stream broke: either the connection did, and its task says how, or the peer is no Gantry.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                closed.send_replace(Some(Closed::lost("the peer does not speak Gantry's protocol over TCP")));
            }
            Err(_) => std::future::pending().await,
        }
    }
}

async fn write_notice(
    write: &mut (impl AsyncWrite + Unpin),
    code: CloseCode,
    reason: &str,
) -> io::Result<()> {
    let reason = &reason.as_bytes()[..reason.len().min(MAX_REASON_LEN)];
    let mut bytes = (code as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&u16::try_from(reason.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(reason);
    write.write_all(&bytes).await?;
    write.close().await
}

async fn read_notice(read: &mut (impl AsyncRead + Unpin)) -> io::Result<Closed> {
    let mut header = [0; 6];
    read.read_exact(&mut header).await?;
    let code = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len > MAX_REASON_LEN {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut reason = vec![0; len];
    read.read_exact(&mut reason).await?;
    Ok(Closed::peer(code.into(), &reason))
}
