// SPDX-License-Identifier: Apache-2.0

//! Address the links to load balancers.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{acquire, moving::Moving, names, rules};
use crate::{
    api::Connection,
    chain::{Close, Element, Kind, Next, Order, Origin, Request, Result},
    ipam::Leases,
};

/// Element for the client chain: both ends get the addresses of the leases, whatever was there.
#[derive(Clone, Debug)]
pub struct Client {
    leases: Leases,
    turn: Arc<Semaphore>,
}

impl Client {
    /// Take addresses from these leases.
    pub fn new(leases: Leases) -> Self {
        Self { leases, turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Element for Client {
    const NAME: &'static str = "ipam";
    const ORDER: Order = Order { after: &["begin", "metadata"], before: &["connect"] };

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let [_, dst] = names(request.connection.client_id());
        let held = acquire(&self.leases, &request, &dst).await?;
        rules::client(request.connection.ip_context_mut(), &held.src.addresses(), &held.dst.addresses());
        request.context.scope.insert(held);
        let (scope, events) = (request.context.scope.clone(), request.context.events.clone());
        let connection = next.request(request).await?;
        scope.insert(Moving::watch(&self.leases, connection.client_id(), &self.turn, &events));
        Ok(connection)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        if close.context.origin != Origin::Event(Kind::Reselect) {
            drop(close.context.scope.take::<Moving>());
        }
        next.close(close).await
    }
}
