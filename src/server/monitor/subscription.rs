// SPDX-License-Identifier: Apache-2.0

//! Delivers events to one reader, which may be slow or gone.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use tokio::sync::mpsc;
use tonic::Status;

use super::connections::Leave;
use crate::api::{
    Connection,
    pb::connection::{ConnectionEvent, ConnectionEventType},
};

/// A change of one connection. Readers share the connection until they write it out.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) kind: ConnectionEventType,
    pub(super) connection: Arc<Connection>,
}

/// Events of the selected connections: all of them at once first, even if there are none, then each
/// change.
///
/// Ends without an error when its [`Connections`](super::Connections) are dropped, and with
/// `RESOURCE_EXHAUSTED` when the reader fell behind. Dropping it ends the subscription.
pub struct Subscription {
    pub(super) first: Option<ConnectionEvent>,
    pub(super) changes: mpsc::Receiver<Change>,
    /// Set before the sender is dropped, if that is because the queue was full.
    pub(super) behind: Arc<AtomicBool>,
    pub(super) _leave: Leave,
}

/// An event of the given kind about the given connections.
pub(super) fn event<'a>(
    kind: ConnectionEventType,
    connections: impl Iterator<Item = &'a Arc<Connection>>,
) -> ConnectionEvent {
    let connections: HashMap<_, _> =
        connections.map(|connection| (connection.id.clone(), Connection::clone(connection))).collect();
    ConnectionEvent { r#type: kind.into(), connections }
}

impl Stream for Subscription {
    type Item = Result<ConnectionEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.changes.poll_recv(cx).map(|change| match change {
            Some(change) => Some(Ok(event(change.kind, [&change.connection].into_iter()))),
            None if self.behind.swap(false, Ordering::AcqRel) => Some(Err(Status::resource_exhausted(
                "the reader of this monitor stream is too slow: events are lost",
            ))),
            None => None,
        })
    }
}
