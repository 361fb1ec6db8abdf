// SPDX-License-Identifier: Apache-2.0

//! Assigns the addresses of links to load balancers.

use super::{Held, acquire, former::Former, moving::Moving, names, rules};
use crate::{
    api::Connection,
    chain::{Close, Element, Next, Order, Request, Result},
    ipam::Leases,
};

/// Element for the client chain: both ends get the addresses of the leases, regardless of their
/// previous addresses. A load balancer that the address service has moved to another subnet also
/// keeps its former addresses, as long as a lease is left in their subnets.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::ipam,
///     ipam::{InMemory, Leases, Settings, Subnet, Tree},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let tree = Tree::new("trench");
/// # tree.add_conduit("conduit")?;
/// # let subnet = Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() };
/// let tasks = Tasks::default();
/// let leases = Leases::start(InMemory::new(tree, subnet), Settings::default(), &tasks);
/// let chain = Chain::new()
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(ipam::Client::new(leases.clone()))
///     .build()?;
/// let answer = chain.request(Request::new(Connection::named("load-balancer-1"))).await?;
/// let ip = answer.ip_context().ok_or("no addresses")?;
/// assert_eq!((ip.src_ip_addrs.len(), ip.dst_ip_addrs.len()), (2, 2), "IPv4 and IPv6 at both ends");
/// assert_eq!(leases.status().borrow().held, 2);
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    leases: Leases,
}

impl Client {
    /// Takes addresses from these leases.
    pub fn new(leases: Leases) -> Self {
        Self { leases }
    }
}

impl Element for Client {
    const NAME: &'static str = "ipam";
    const ORDER: Order = Order::STATE;

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let [_, dst] = names(request.connection.client_id());
        let held = acquire(&self.leases, &request, &dst).await?;
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let now = held.src.addresses();
        let before = scope.get::<Held>().map_or(now, |before| before.src.addresses());
        let former = scope.get::<Former>().unwrap_or_default().after(&before, &now);
        rules::client(request.connection.ip_context_mut(), &now, &held.dst.addresses(), former.nets());
        scope.insert(held);
        scope.insert(former.clone());
        let connection = next.request(request).await?;
        scope.insert(Moving::watch(&self.leases, connection.client_id(), former, &events));
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Moving>());
    }
}
