// SPDX-License-Identifier: Apache-2.0

//! Routes packets from VIPs to the load balancer at the other end (Meridio's next hops).
//!
//! The addresses of the other end, as answered, become next hops of the default route for VIP
//! sources:
//! 1. At most one per family, because traffic is spread over connections, not addresses.
//! 2. Not an address of our own end, and none that no host can have.
//! 3. A healed connection may have another link at its far end: the link-layer addresses of its
//!    next hops are resolved again.
//!
//! The element only declares them. The kernel's reconciler installs them once the VIPs are known,
//! by way of the bridge.
//!
//! # Order
//! Above `bridge`: the port is declared first. Below `egress`.
//!
//! # Close
//! The next hops are withdrawn before the Close is passed on, even if the Close then fails.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    api::{Connection, Family, parse_prefixes},
    chain::{Close, Element, EventKind, Next, Order, Origin, Request, Result},
    kernel::{Kernel, NextHopGuard, PeerId},
};

/// Element that declares next hops.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::source_route::SourceRoute,
///     kernel::{Kernel, Memory, Settings},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), Memory::default(), &tasks);
/// let chain = Chain::new()
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(SourceRoute::new(kernel.clone()))
///     .build()?;
/// let mut connection = Connection::named("a");
/// connection.ip_context_mut().dst_ip_addrs = vec!["172.16.1.2/24".into()];
/// chain.request(Request::new(connection)).await?; // declares 172.16.1.2
/// tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SourceRoute {
    kernel: Kernel,
}

/// The next hops of a connection.
struct NextHops {
    addresses: Vec<IpAddr>,
    _guards: Vec<NextHopGuard>,
}

impl SourceRoute {
    /// Declares next hops at `kernel`.
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }
}

/// Rules 1 and 2.
fn next_hops(connection: &Connection) -> Vec<IpAddr> {
    let Some(ip) = connection.ip_context() else { return Vec::new() };
    let own: Vec<IpAddr> = parse_prefixes(&ip.src_ip_addrs).iter().map(IpNet::addr).collect();
    let theirs: Vec<IpAddr> = parse_prefixes(&ip.dst_ip_addrs).iter().map(IpNet::addr).collect();
    let theirs = theirs.into_iter().filter(|address| {
        !own.contains(address)
            && !address.is_unspecified()
            && !address.is_loopback()
            && !address.is_multicast()
    });
    let theirs: Vec<_> = theirs.collect();
    Family::BOTH
        .into_iter()
        .filter_map(|family| theirs.iter().copied().find(|address| Family::of(*address) == family))
        .collect()
}

impl Element for SourceRoute {
    const NAME: &'static str = "source_route";
    const ORDER: Order = Order::STATE.after(&["egress"]).before(&["bridge"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let healed = request.context.origin == Origin::Event(EventKind::Heal);
        let connection = next.request(request).await?;
        let addresses = next_hops(&connection);
        if addresses.is_empty() {
            tracing::warn!(id = connection.id, "the answer has no address that can be a next hop");
        }
        // An unchanged refresh declares nothing, because it would wake the reconciler.
        if scope.get::<NextHops>().is_some_and(|hops| hops.addresses == addresses) {
            if healed {
                addresses.into_iter().for_each(|address| self.kernel.relinked(address));
            }
        } else {
            let peer = PeerId::load_balancer(connection.client_id());
            let _guards = addresses.iter().map(|address| self.kernel.next_hop(&peer, *address)).collect();
            scope.insert(NextHops { addresses, _guards });
        }
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<NextHops>());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        api::Dual,
        chain::{Call, Chain, Error, Events, Reason, begin::BeginLayer, laws, metadata::MetadataLayer},
        kernel::{Ends, Memory, Op, PortGuard, Settings},
        task::Tasks,
        testing::Given,
    };

    fn addressed(connection: &mut Connection, src: &[&str], dst: &[&str]) {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        connection.ip_context_mut().src_ip_addrs = texts(src);
        connection.ip_context_mut().dst_ip_addrs = texts(dst);
    }

    #[test]
    fn next_hops_are_found_by_the_table() {
        // rule, own addresses, theirs, next hops
        #[rustfmt::skip]
        let table = [
            ("both families, v4 first", vec![], vec!["fd00::2/64", "172.16.1.2/24"], vec!["172.16.1.2", "fd00::2"]),
            ("1 one per family", vec![], vec!["172.16.1.2/24", "172.16.1.3/24"], vec!["172.16.1.2"]),
            ("2 our own", vec!["172.16.1.2/24"], vec!["172.16.1.2/24", "172.16.1.3/24"], vec!["172.16.1.3"]),
            ("2 no host's", vec![], vec!["0.0.0.0/0", "127.0.0.1/8", "224.0.0.1/32", "::/0", "banana"], vec![]),
            ("none", vec![], vec![], vec![]),
        ];
        for (rule, src, dst, expected) in table {
            let mut connection = *Connection::named("lb-1");
            addressed(&mut connection, &src, &dst);
            let found: Vec<String> = next_hops(&connection).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{rule}");
        }
        assert!(next_hops(&Connection::named("lb-1")).is_empty(), "no context");
    }

    async fn kernel(linux: &Memory, tasks: &Tasks) -> Kernel {
        let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), tasks);
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
        kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
        kernel.settled().await;
        kernel
    }

    /// Declares the link of the load balancer, as `bridge` does below.
    fn link(linux: &Memory, kernel: &Kernel) -> PortGuard {
        linux.add_link("nsm-1", None);
        kernel.port(&PeerId::load_balancer("lb-1"), "nsm-1".parse().unwrap(), Ends::default())
    }

    async fn installed(kernel: &Kernel) -> Vec<String> {
        kernel.settled().await;
        let hops = kernel.status().borrow().next_hops.v4.clone().unwrap_or_default();
        hops.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_answered_address_is_a_next_hop_until_the_close_begins() {
        let tasks = Tasks::default();
        let linux = Memory::default();
        let kernel = kernel(&linux, &tasks).await;
        let _port = link(&linux, &kernel);
        let seen = kernel.clone();
        let end = tower::service_fn(move |mut call: Call| {
            let kernel = seen.clone();
            async move {
                if let Call::Request(request) = &mut call {
                    let theirs = format!("172.16.1.{}/24", request.connection.payload);
                    addressed(&mut request.connection, &[], &[&theirs]);
                    return Ok(call.into_connection());
                }
                assert!(installed(&kernel).await.is_empty(), "withdrawn before the Close goes on");
                Err(Error::from(Reason::Refused("the load balancer is gone".into())))
            }
        });
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        let chain = rows.with(SourceRoute::new(kernel.clone())).end(end).build().unwrap();
        for host in ["2", "2", "3"] {
            let mut connection = Connection::named("lb-1");
            connection.payload = host.into();
            chain.request(Request::new(connection)).await.unwrap();
            assert_eq!(installed(&kernel).await, [format!("172.16.1.{host}")]);
        }
        chain.close(Close::new(Connection::named("lb-1"))).await.unwrap_err();
        assert!(installed(&kernel).await.is_empty(), "also when the Close fails");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_declares_only_changes() {
        let tasks = Tasks::default();
        let linux = Memory::default();
        let kernel = kernel(&linux, &tasks).await;
        let _port = link(&linux, &kernel);
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        let chain = rows.with(SourceRoute::new(kernel.clone())).build().unwrap();
        let refresh = async |host: &str| {
            let mut connection = Connection::named("lb-1");
            addressed(&mut connection, &[], &[&format!("172.16.1.{host}/24")]);
            chain.request(Request::new(connection)).await.unwrap();
            let next_hops = installed(&kernel).await;
            let status = kernel.status().borrow().clone();
            (next_hops, status.revision, status.passes)
        };
        let first = refresh("2").await;
        assert_eq!(refresh("2").await, first, "the reconciler sleeps on");
        let (next_hops, ..) = refresh("3").await;
        assert_eq!(next_hops, ["172.16.1.3"]);
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_healed_next_hop_is_resolved_again() {
        let tasks = Tasks::default();
        let linux = Memory::default();
        let kernel = kernel(&linux, &tasks).await;
        let given: Arc<Mutex<Option<Events>>> = Arc::default();
        let keep = Arc::clone(&given);
        let end = tower::service_fn(move |call: Call| {
            *keep.lock().unwrap() = Some(call.context().events.clone());
            async { Ok::<_, Error>(call.into_connection()) }
        });
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        let chain = rows.with(SourceRoute::new(kernel.clone())).end(end).build().unwrap();
        let mut connection = Connection::named("lb-1");
        addressed(&mut connection, &[], &["172.16.1.2/24"]);
        chain.request(Request::new(connection)).await.unwrap();
        let events = given.lock().unwrap().clone().unwrap();
        let asked = async || {
            kernel.settled().await;
            linux.made().iter().filter(|op| matches!(op, Op::ForgetNeighbour(_))).count()
        };
        assert_eq!(asked().await, 1);
        for (kind, times) in [(EventKind::Refresh, 1), (EventKind::Heal, 2)] {
            events.request(kind).await.unwrap();
            assert_eq!(asked().await, times, "{kind:?}");
        }
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let tasks = Tasks::default();
        let kernel = kernel(&Memory::default(), &tasks).await;
        laws::check_with(
            || {
                Given(SourceRoute::new(kernel.clone()), |c: &mut Connection, _: &mut _| {
                    addressed(c, &[], &["172.16.1.2/24"])
                })
            },
            || kernel.status().borrow().declared_next_hops().len(),
        )
        .await
        .unwrap();
        tasks.stop().await;
    }
}
