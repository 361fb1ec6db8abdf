// SPDX-License-Identifier: Apache-2.0

//! Assigns the addresses of links to targets, and their gateways.

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

/// VIPs of the trench: sorted, without host bits; `None` while no list is known.
pub type Listed = Option<Arc<[IpNet]>>;

/// Timeout for a VIP to be listed. The target and the proxy are notified of a new one at the same
/// time.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// The VIPs that a target sent with its last Request.
struct Sent(Vec<IpNet>);

/// Element for the endpoint chain: new links get addresses, known ones keep theirs and the VIPs
/// that the target added.
///
/// A target is never answered without a gateway of each of its families, because it would then
/// regard none of its addresses as its own. Such a Request is [`Reason::Unavailable`].
///
/// ```
/// use nsm::{
///     api::{Connection, Dual},
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::ipam::{self, Gateways},
///     ipam::{InMemory, Leases, Settings, Subnet, Tree},
///     task::Tasks,
/// };
/// use tokio::sync::watch;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tree = Tree::new("trench");
/// # tree.add_conduit("conduit")?;
/// # let subnet = Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() };
/// let tasks = Tasks::default();
/// let leases = Leases::start(InMemory::new(tree, subnet), Settings::default(), &tasks);
/// let bridge = Dual { v4: "169.255.0.254/24".parse().ok(), v6: "fd00::fe/64".parse().ok() };
/// let (_, gateways) = watch::channel(Gateways::from(bridge));
/// let (_, vips) = watch::channel(None); // no list yet
/// let chain = Chain::new()
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(ipam::Endpoint::new(leases, gateways, vips))
///     .build()?;
/// let answer = chain.request(Request::new(Connection::named("target-1"))).await?;
/// let ip = answer.ip_context().ok_or("no addresses")?;
/// assert_eq!(ip.extra_prefixes, ["169.255.0.254/24", "fd00::fe/64"], "the gateways");
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    leases: Leases,
    gateways: watch::Receiver<Gateways>,
    vips: watch::Receiver<Listed>,
}

impl Endpoint {
    /// Takes addresses from these leases. `gateways` are the addresses of the bridge, `vips` those
    /// that targets may add to theirs.
    pub fn new(leases: Leases, gateways: watch::Receiver<Gateways>, vips: watch::Receiver<Listed>) -> Self {
        Self { leases, gateways, vips }
    }

    /// The list that has all VIPs of the target, or the one after a while. Only a VIP that is not
    /// in `before` is waited for: a refresh is answered at once, also when a VIP has left the list.
    async fn listed(&self, id: &str, ip: &IpContext, ours: &Ours, before: &[IpNet]) -> Listed {
        let mut vips = self.vips.clone();
        let complete = vips.wait_for(|vips| {
            rules::unlisted(ip, ours, vips.as_deref()).iter().all(|vip| before.contains(vip))
        });
        let _late = timeout(LISTED_WITHIN, complete).await;
        let vips = self.vips.borrow().clone();
        let unlisted = rules::unlisted(ip, ours, vips.as_deref());
        if let Some(first) = unlisted.first() {
            tracing::warn!(id, %first, number = unlisted.len(), "leaves out addresses of a target that are no VIPs of the trench");
        }
        vips
    }
}

fn no_gateway(own: IpNet) -> Reason {
    let family = Family::of_net(&own);
    let address = own.addr();
    Reason::Unavailable(format!("the bridge has no {family} address in the subnet of {address} yet"))
}

impl Element for Endpoint {
    const NAME: &'static str = "ipam";
    const ORDER: Order = Order::STATE.after(&["mechanism"]).before(&["bridge"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        if self.gateways.borrow().now().is_empty() {
            return Err(Reason::Unavailable("the bridge has no IP address yet".into()).into());
        }
        let held = acquire(&self.leases, &request, PORTS).await?;
        let src = held.src.addresses();
        let dst = held.dst.addresses();
        let ours = Ours { src, dst, gateways: self.gateways.borrow().of(&src) };
        if let Some(own) = ours.without_gateway() {
            return Err(no_gateway(own).into());
        }
        let scope = request.context.scope.clone();
        let before = scope.get::<Sent>();
        let id = request.connection.id.clone();
        let ip = request.connection.ip_context_mut();
        let sent = rules::unlisted(ip, &ours, Some(&[]));
        let vips = self.listed(&id, ip, &ours, before.as_ref().map_or(&[], |before| &before.0)).await;
        rules::endpoint(ip, &ours, vips.as_deref())?;
        scope.insert(Sent(sent));
        scope.insert(held);
        next.request(request).await
    }
}
