// SPDX-License-Identifier: Apache-2.0

//! Small elements for tests of the machine and the laws.

use std::{future::pending, time::Duration};

use nsm::{
    api::Connection,
    chain::{Close, Element, EventKind, Next, Order, Request, Result},
    task::Task,
};
use tokio::time::sleep;

/// Sets the MTU, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mtu(pub(crate) u32);

impl Element for Mtu {
    const NAME: &'static str = "mtu";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        request.connection.context_mut().mtu = self.0;
        next.request(request).await
    }
}

/// Requests again after this time; after a failure, again after a tenth of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refresh(pub(crate) Duration);

struct Timer(#[expect(dead_code, reason = "a guard")] Task);

impl Element for Refresh {
    const NAME: &'static str = "refresh";
    const ORDER: Order = Order::ANY.after(&["begin"]).before(&["mechanism", "connect"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let first = self.0;
        let again = self.0 / 10;
        let connection = next.request(request).await?;
        scope.insert(Timer(events.spawn(|events| async move {
            sleep(first).await;
            while events.request(EventKind::Refresh).await.is_err() {
                sleep(again).await;
            }
        })));
        Ok(connection)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        drop(close.context.scope.take::<Timer>());
        next.close(close).await
    }
}

/// A bad example: it cleans up by code after an await, which does not run when the call is
/// cancelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgetful;

impl Element for Forgetful {
    const NAME: &'static str = "forgetful";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let watch = tokio::spawn(pending::<()>());
        let answer = next.request(request).await;
        watch.abort();
        answer
    }
}
