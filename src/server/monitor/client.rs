// SPDX-License-Identifier: Apache-2.0

//! Monitors the connections of a peer.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use crate::{
    api::pb::connection::{
        ConnectionEvent, MonitorScopeSelector, monitor_connection_client::MonitorConnectionClient,
    },
    transport::{DialError, Dialer, Wire, origin},
};

/// Events of a peer's connections. It ends, with or without an error, when the peer goes away.
pub type Events = BoxStream<'static, Result<ConnectionEvent, Status>>;

/// Timeout for opening a stream. NSM's peers answer at once.
const OPENING: Duration = Duration::from_secs(15);

/// Watches the selected connections of the peer of a wire. The stream opens when it is first
/// polled, and keeps the wire open.
///
/// # Errors
/// None while opening: a peer that refuses ends the stream with its status, and one that sends
/// nothing for 15 s with `DEADLINE_EXCEEDED`.
pub fn watch(wire: &Wire, selector: MonitorScopeSelector, lifetime: Duration) -> Events {
    let wire = wire.clone();
    let open = async move {
        let request = wire.call(selector, None, lifetime)?;
        let mut client = MonitorConnectionClient::with_origin(wire, origin());
        let opened = timeout(OPENING, client.monitor_connections(request)).await;
        let Ok(opened) = opened else {
            let late = format!("the monitor stream was not opened within {OPENING:?}");
            return Err(Status::deadline_exceeded(late));
        };
        Ok(opened?.into_inner())
    };
    futures::stream::once(open).try_flatten().boxed()
}

/// The reason why a peer's connections could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The peer was not reached.
    #[error("the peer was not reached")]
    Dial(#[from] DialError),
    /// The peer refused, or ended the stream.
    #[error("the peer answered {code:?}: {message}", code = .0.code(), message = .0.message())]
    Status(Box<Status>),
    /// The first event did not arrive in time.
    #[error("no event within {0:?}")]
    Late(Duration),
}

/// The selected connections that a peer has now: dials, reads the first event, and closes, within
/// the time `within`.
///
/// # Errors
/// [`SnapshotError`]. A peer that has none answers with an event without connections, which is not
/// an error.
pub async fn snapshot(
    dialer: &Dialer,
    selector: MonitorScopeSelector,
    within: Duration,
) -> Result<ConnectionEvent, SnapshotError> {
    let deadline = Instant::now() + within;
    let wire = dialer.dial(deadline).await?;
    let mut events = watch(&wire, selector, dialer.token_lifetime);
    let first = timeout_at(deadline, events.next()).await.map_err(|_| SnapshotError::Late(within))?;
    let first = first.unwrap_or_else(|| Err(Status::unavailable("the stream ended before its first event")));
    first.map_err(|status| SnapshotError::Status(Box::new(status)))
}
