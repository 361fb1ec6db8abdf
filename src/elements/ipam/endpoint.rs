// SPDX-License-Identifier: Apache-2.0

//! Address the links to targets, and name the gateways.

use ipnet::IpNet;
use tokio::sync::watch;

use super::{
    acquire,
    rules::{self, Ours},
};
use crate::{
    api::{Connection, Dual},
    chain::{Element, Next, Order, Reason, Request, Result},
    ipam::Leases,
};

/// Element for the endpoint chain: new links get addresses, known ones keep theirs and the VIPs that the target added.
///
/// A target is never answered without a gateway of each of its families: it would take none of its addresses for its own. Such a
/// Request is [`Reason::Unavailable`].
#[derive(Clone, Debug)]
pub struct Endpoint {
    leases: Leases,
    gateways: watch::Receiver<Dual<IpNet>>,
}

impl Endpoint {
    /// Take addresses from these leases. `gateways` are the addresses of the bridge, with the prefix length of the node.
    pub fn new(leases: Leases, gateways: watch::Receiver<Dual<IpNet>>) -> Self {
        Self { leases, gateways }
    }
}

fn no_gateway(family: impl std::fmt::Display) -> Reason {
    Reason::Unavailable(format!("the bridge has no {family} address yet, so there is no gateway"))
}

impl Element for Endpoint {
    const NAME: &'static str = "ipam";
    const ORDER: Order = Order { after: &["begin", "metadata", "mechanism"], before: &["bridge"] };

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        if self.gateways.borrow().is_empty() {
            return Err(no_gateway("IP").into());
        }
        let held = acquire(&self.leases, &request).await?;
        let gateways = *self.gateways.borrow();
        let ours = Ours { src: held.src.addresses(), dst: held.dst.addresses(), gateways };
        if let Some(family) = ours.without_gateway() {
            return Err(no_gateway(family).into());
        }
        rules::endpoint(request.connection.ip_context_mut(), &ours);
        request.context.scope.insert(held);
        next.request(request).await
    }
}
