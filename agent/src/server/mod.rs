//! This module owns the agent's side of sessions: who may ask what, and who answers.
//!
//! ```text
//! Listener ─▶ session (one task per connection) ─▶ request (one task per stream)
//!                                                    authorize ─▶ dispatch ─▶ executor | look at the host
//!                                                                   └─▶ follow: events until the step ends
//! ```

mod authorize;
mod dispatch;
mod drift;
mod follow;
mod inventory;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use gantry_protocol::{CloseCode, Request};
use gantry_transport::{Connection, Listener, RecvStream, SendStream, StreamError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::executor::Executor;
use crate::host::Host;
use crate::identity::IdentityKeeper;

/// How long a peer may take from opening a stream to having sent its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How long connections may take to hear that the agent stops.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// What every session needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    /// What the agent looks at.
    pub host: Host,
    /// Who changes it.
    pub executor: Executor,
    /// Who the agent is.
    pub identity: Arc<IdentityKeeper>,
}

impl Server {
    /// Accepts sessions on `listener` until `stop` is cancelled; then waits for running steps to reach a point where
    /// they can be left, and closes every connection.
    pub async fn serve(self, listener: Arc<Listener>, stop: CancellationToken) {
        let sessions = TaskTracker::new();
        let close = CancellationToken::new();
        loop {
            let connection = tokio::select! {
                () = stop.cancelled() => break,
                connection = listener.accept() => connection,
            };
            let (server, close) = (self.clone(), close.clone());
            sessions.spawn(server.session(connection, close));
        }
        self.executor.drain().await;
        close.cancel();
        sessions.close();
        if tokio::time::timeout(GOODBYE_LIMIT, sessions.wait())
            .await
            .is_err()
        {
            tracing::warn!("{} connections did not close in time", sessions.len());
        }
    }

    async fn session(self, connection: Connection, close: CancellationToken) {
        let peer = connection.peer().clone();
        tracing::info!(peer = %peer, address = %connection.remote_addr(), path = ?connection.path(), "session opened");
        let requests = TaskTracker::new();
        loop {
            let (send, recv) = tokio::select! {
                () = close.cancelled() => {
                    connection.shut_down(CloseCode::ShuttingDown, "the agent is stopping").await;
                    break;
                }
                stream = connection.accept_bi() => match stream {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::info!(peer = %peer, "session ended: {error}");
                        break;
                    }
                },
            };
            requests.spawn(self.clone().request(connection.clone(), send, recv));
        }
        requests.close();
        requests.wait().await;
    }

    async fn request(self, connection: Connection, mut send: SendStream, mut recv: RecvStream) {
        let request = match tokio::time::timeout(REQUEST_LIMIT, recv.recv::<Request>()).await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => {
                tracing::warn!(peer = %connection.peer(), "a request could not be read: {error}");
                return send.reset(CloseCode::Protocol);
            }
            Err(_) => {
                tracing::warn!(peer = %connection.peer(), "a stream was opened and no request came");
                return send.reset(CloseCode::TimedOut);
            }
        };
        let answered = match authorize::authorize(connection.peer(), &request) {
            Ok(()) => tokio::select! {
                answered = self.answer(request, &connection, &mut send, &mut recv) => answered,
                // A silent script would keep this task, and the connection's slot, until it ends.
                _ = connection.closed() => Ok(()),
            },
            Err(refusal) => {
                tracing::warn!(peer = %connection.peer(), "{refusal}");
                dispatch::refuse(refusal, &mut send).await
            }
        };
        match answered {
            // A peer that lost interest is no news.
            Ok(()) | Err(StreamError::Closed(_) | StreamError::Ended(_)) => {}
            Err(error) => {
                tracing::warn!(peer = %connection.peer(), "a request could not be answered: {error}");
            }
        }
    }
}
