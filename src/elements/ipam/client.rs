// SPDX-License-Identifier: Apache-2.0

//! Address the links to load balancers.

use super::{acquire, rules};
use crate::{
    api::Connection,
    chain::{Element, Next, Order, Request, Result},
    ipam::Leases,
};

/// Element for the client chain: both ends get the addresses of the leases, whatever was there.
#[derive(Clone, Debug)]
pub struct Client {
    leases: Leases,
}

impl Client {
    /// Take addresses from these leases.
    pub fn new(leases: Leases) -> Self {
        Self { leases }
    }
}

impl Element for Client {
    const NAME: &'static str = "ipam";
    const ORDER: Order = Order { after: &["begin", "metadata"], before: &["connect"] };

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let held = acquire(&self.leases, &request).await?;
        rules::client(request.connection.ip_context_mut(), &held.src.addresses(), &held.dst.addresses());
        request.context.scope.insert(held);
        next.request(request).await
    }
}
