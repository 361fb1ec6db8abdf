// SPDX-License-Identifier: Apache-2.0

//! Address the links to targets, and name the gateways.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::{sync::watch, time::timeout};

use super::{
    Gateways, acquire,
    rules::{self, Ours},
};
use crate::{
    api::{Connection, Family, pb::connectioncontext::IpContext},
    chain::{Element, Next, Order, Reason, Request, Result},
    ipam::{Leases, PORTS},
};

/// VIPs of the trench: sorted, without host bits; `None` as long as no list is known.
pub type Listed = Option<Arc<[IpNet]>>;

/// Longest wait for a VIP to be listed. The target and the proxy are notified of a new one at the same time.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// Element for the endpoint chain: new links get addresses, known ones keep theirs and the VIPs that the target added.
///
/// A target is never answered without a gateway of each of its families: it would take none of its addresses for its own. Such a
/// Request is [`Reason::Unavailable`].
#[derive(Clone, Debug)]
pub struct Endpoint {
    leases: Leases,
    gateways: watch::Receiver<Gateways>,
    vips: watch::Receiver<Listed>,
}

impl Endpoint {
    /// Take addresses from these leases. `gateways` are the addresses of the bridge, `vips` those that targets may
    /// add to theirs.
    pub fn new(leases: Leases, gateways: watch::Receiver<Gateways>, vips: watch::Receiver<Listed>) -> Self {
        Self { leases, gateways, vips }
    }

    /// The list that has all VIPs of the target, or the one after a while.
    async fn listed(&self, id: &str, ip: Option<&IpContext>, ours: &Ours) -> Listed {
        let (Some(ip), mut vips) = (ip, self.vips.clone()) else { return self.vips.borrow().clone() };
        let complete = vips.wait_for(|vips| rules::unlisted(ip, ours, vips.as_deref()).is_empty());
        if let Ok(Ok(vips)) = timeout(LISTED_WITHIN, complete).await {
            return vips.clone();
        }
        let vips = self.vips.borrow().clone();
        let unlisted = rules::unlisted(ip, ours, vips.as_deref());
        if let Some(first) = unlisted.first() {
            tracing::warn!(id, %first, number = unlisted.len(), "leaves out addresses of a target that are no VIPs of the trench");
        }
        vips
    }
}

fn no_gateway(own: IpNet) -> Reason {
    let (family, address) = (Family::of_net(&own), own.addr());
    Reason::Unavailable(format!("the bridge has no {family} address in the subnet of {address} yet"))
}

impl Element for Endpoint {
    const NAME: &'static str = "ipam";
    const ORDER: Order = Order { after: &["begin", "metadata", "mechanism"], before: &["bridge"] };

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        if self.gateways.borrow().now().is_empty() {
            return Err(Reason::Unavailable("the bridge has no IP address yet".into()).into());
        }
        let held = acquire(&self.leases, &request, PORTS).await?;
        let (src, dst) = (held.src.addresses(), held.dst.addresses());
        let ours = Ours { src, dst, gateways: self.gateways.borrow().of(&src) };
        if let Some(own) = ours.without_gateway() {
            return Err(no_gateway(own).into());
        }
        let vips = self.listed(&request.connection.id, request.connection.ip_context(), &ours).await;
        rules::endpoint(request.connection.ip_context_mut(), &ours, vips.as_deref())?;
        request.context.scope.insert(held);
        next.request(request).await
    }
}
