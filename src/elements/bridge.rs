// SPDX-License-Identifier: Apache-2.0

//! Makes the link of a connection a port of the bridge (Meridio `interfacemonitor`).
//!
//! The element only declares the port, by the name in the mechanism; the kernel's reconciler
//! attaches the link when it exists, and again whenever it is detached. Links of other mechanisms
//! are not ports.
//!
//! # Order
//! [`Endpoint`] acts before the answer: the forwarder makes the link after it. Until a link is a
//! port, only its leak stop keeps the target's packets from the primary network, so the answer to
//! the first Request waits until the leak stop is in place. This is the only place where an element
//! waits for the kernel, for a second at most: a kernel that refuses must not keep targets away.
//! [`Client`] acts on the answer, when the link exists; `source_route` and `egress` stand above it,
//! so that a port exists before a next hop, and a next hop before the connection counts.
//!
//! # Close
//! The port is withdrawn before the Close is passed on, even if the Close then fails.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use tokio::time::timeout;

use crate::{
    api::{Connection, InterfaceName, MechanismKind, parameter, parse_prefixes},
    chain::{Close, Element, Next, Order, Reason, Request, Result, Scope},
    kernel::{Ends, Kernel, PeerId, PortGuard, Role},
};

/// Element for the endpoint chain.
///
/// ```
/// use nsm::{
///     api::NsUrl,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::bridge,
///     kernel::{Kernel, Memory, Settings},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), Memory::default(), &tasks);
/// let chain = Chain::new()
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(bridge::Endpoint::new(kernel.clone()))
///     .build()?;
///
/// let url: NsUrl = "kernel://service/nsm-1".parse()?;
/// let mut connection = url.connection("target-1");
/// connection.mechanism = Some(url.mechanism());
/// chain.request(Request::new(connection)).await?;
/// let status = kernel.status().borrow().clone();
/// assert!(status.pending.contains(&"nsm-1".parse()?)); // until the forwarder has made the link
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Endpoint {
    kernel: Kernel,
}

/// Element for the client chain.
///
/// ```
/// use nsm::{
///     api::NsUrl,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::bridge,
///     kernel::{Kernel, Memory, Settings},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let linux = Memory::default();
/// let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
/// let chain = Chain::new()
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(bridge::Client::new(kernel.clone()))
///     .build()?;
///
/// linux.add_link("nsm-1", None); // by the forwarder, before it answers
/// let url: NsUrl = "kernel://service/nsm-1".parse()?;
/// let mut connection = url.connection("load-balancer-1");
/// connection.mechanism = Some(url.mechanism());
/// chain.request(Request::new(connection)).await?;
/// kernel.settled().await;
/// assert!(kernel.status().borrow().ports.contains(&"nsm-1".parse()?));
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    kernel: Kernel,
}

/// The link of a connection.
struct Port {
    name: InterfaceName,
    ends: Ends,
    _guard: PortGuard,
}

/// Declares the link of a connection as a port; true if it is another link than before. An
/// unchanged refresh declares nothing.
fn declare(
    kernel: &Kernel,
    peer: &PeerId,
    connection: &Connection,
    name: InterfaceName,
    scope: &Scope,
) -> bool {
    let ends = ends(peer.role, connection);
    let before = scope.get::<Port>();
    let known = before.as_ref().is_some_and(|port| port.name == name);
    if !known || before.is_some_and(|port| port.ends != ends) {
        let _guard = kernel.port(peer, name.clone(), ends.clone());
        scope.insert(Port { name, ends, _guard });
    }
    !known
}

/// Addresses of a connection in the subnets of gateways. VIPs are host prefixes and lie in none.
fn ends(role: Role, connection: &Connection) -> Ends {
    let Some(ip) = connection.ip_context() else { return Ends::default() };
    let client = hosts(&ip.src_ip_addrs);
    let endpoint = hosts(&ip.dst_ip_addrs);
    match role {
        Role::Target => Ends { near: endpoint, far: client },
        Role::LoadBalancer => Ends { near: client, far: endpoint },
    }
}

fn hosts(texts: &[String]) -> Arc<[IpAddr]> {
    let nets = parse_prefixes(texts);
    nets.iter().filter(|net| net.prefix_len() < net.max_prefix_len()).map(IpNet::addr).collect()
}

/// Timeout for the leak stop of a link.
const LEAK_STOP_TIMEOUT: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Declares ports at `kernel`.
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }

    /// Waits until the kernel reports the leak stop of a link.
    async fn leak_stopped(&self, link: &InterfaceName, id: &str) {
        let mut status = self.kernel.status();
        let stopped = status.wait_for(|status| status.leak_stopped.contains(link));
        if !matches!(timeout(LEAK_STOP_TIMEOUT, stopped).await, Ok(Ok(_))) {
            tracing::error!(%link, id, "the leak stop of a link is late: the target is answered without");
        }
    }
}

impl Client {
    /// Declares ports at `kernel`.
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }
}

/// Name of the connection's link; `None` if its mechanism makes no link.
fn link(connection: &Connection) -> Result<Option<InterfaceName>> {
    let agreed = connection.mechanism.as_ref();
    let Some(mechanism) = agreed.filter(|agreed| agreed.kind() == Some(MechanismKind::Kernel)) else {
        return Ok(None);
    };
    let name = mechanism.parameters.get(parameter::NAME).map_or("", String::as_str);
    let name =
        name.parse().map_err(|error| Reason::Invalid(format!("mechanism parameter `name`: {error}")))?;
    Ok(Some(name))
}

impl Element for Endpoint {
    const NAME: &'static str = "bridge";
    const ORDER: Order = Order::STATE.after(&["mechanism"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        let connection = &request.connection;
        match link(connection)? {
            Some(name) => {
                let peer = PeerId::target(connection.client_id());
                if declare(&self.kernel, &peer, connection, name.clone(), scope) {
                    self.leak_stopped(&name, &connection.id).await;
                }
            }
            None => drop(scope.take::<Port>()),
        }
        next.request(request).await
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Port>());
    }
}

impl Element for Client {
    const NAME: &'static str = "bridge";
    const ORDER: Order = Order::STATE;

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let connection = next.request(request).await?;
        match link(&connection)? {
            Some(name) => {
                let peer = PeerId::load_balancer(connection.client_id());
                declare(&self.kernel, &peer, &connection, name, &scope);
            }
            None => drop(scope.take::<Port>()),
        }
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Port>());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;
    use crate::{
        api::Mechanism,
        chain::{Answered, Call, Chain, Error, begin::BeginLayer, laws, metadata::MetadataLayer},
        kernel::{Ends, Memory, Settings},
        task::Tasks,
        testing::Given,
    };

    fn kernel(tasks: &Tasks) -> Kernel {
        let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), Memory::default(), tasks);
        kernel.set_gateways(crate::api::Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
        kernel
    }

    fn linked(connection: &mut Connection, name: &str) {
        let mut mechanism = Mechanism::local(MechanismKind::Kernel);
        mechanism.parameters.insert(parameter::NAME.into(), name.into());
        connection.mechanism = Some(mechanism);
    }

    fn named(name: &str) -> Box<Connection> {
        let mut connection = Connection::named("a");
        linked(&mut connection, name);
        connection
    }

    /// Names of the declared ports. None of their links exists, so all are pending.
    async fn declared(kernel: &Kernel) -> Vec<String> {
        kernel.settled().await;
        kernel.status().borrow().pending.iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_declares_its_port_before_the_answer() {
        let tasks = Tasks::default();
        let kernel = kernel(&tasks);
        let rows = || Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        for (chain, before_the_answer) in
            [(rows().with(Endpoint::new(kernel.clone())), 1), (rows().with(Client::new(kernel.clone())), 0)]
        {
            let seen = kernel.clone();
            let end = tower::service_fn(move |call: Call| {
                let kernel = seen.clone();
                async move {
                    let expected = if matches!(call, Call::Request(_)) { before_the_answer } else { 0 };
                    assert_eq!(declared(&kernel).await.len(), expected, "{call:?}");
                    Ok::<_, Error>(call.into_connection())
                }
            });
            let chain = chain.end(end).build().unwrap();
            chain.request(Request::new(named("nsm-1"))).await.unwrap();
            assert_eq!(declared(&kernel).await, ["nsm-1"]);
            chain.close(Close::new(named("nsm-1"))).await.unwrap();
            assert!(declared(&kernel).await.is_empty());
        }
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_is_answered_when_the_leak_stop_of_its_link_is_in() {
        let tasks = Tasks::default();
        let settings = Settings::of("trench", "conduit", "node");
        let linux = Memory::default();
        let kernel = Kernel::start(settings.clone(), linux.clone(), &tasks);
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        let ports = kernel.clone();
        let endpoint = Endpoint::new(kernel);
        let chain = rows.with(endpoint).build().unwrap();
        chain.request(Request::new(named("nsm-1"))).await.unwrap();
        let rules = linux.observed(&settings.ours).rules;
        assert!(
            rules.iter().any(|rule| rule.input.as_ref().is_some_and(|link| link.as_str() == "nsm-1")),
            "{rules:?}"
        );

        linux.refuse_all(Some(1));
        let start = tokio::time::Instant::now();
        chain.request(Request::new(named("nsm-1"))).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "a refresh does not wait");
        // More refusals than a status lists, and the link's own is the last.
        let other = PeerId::target("other");
        let _others = Vec::from_iter(
            (10..30).map(|n| ports.port(&other, format!("a-{n}").parse().unwrap(), Ends::default())),
        );
        chain.request(Request::new(named("nsm-2"))).await.unwrap();
        assert_eq!(start.elapsed(), LEAK_STOP_TIMEOUT, "a kernel that refuses keeps nobody away for longer");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn l07_a_failed_request_declares_no_port_and_a_new_name_one() {
        let tasks = Tasks::default();
        let kernel = kernel(&tasks);
        let end = tower::service_fn(|call: Call| async move {
            let mechanism = call.connection().mechanism.as_ref();
            match mechanism.and_then(Mechanism::interface).is_some_and(|name| name.as_str() == "bad") {
                true => Err(Error::from(Reason::Refused("as the test wants".into()))),
                false => Ok(call.into_connection()),
            }
        });
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        let chain = rows.with(Endpoint::new(kernel.clone())).end(end).build().unwrap();
        chain.request(Request::new(named("bad"))).await.unwrap_err();
        assert!(declared(&kernel).await.is_empty());
        chain.request(Request::new(named("nsm-1"))).await.unwrap();
        chain.request(Request::new(named("bad"))).await.unwrap_err();
        assert_eq!(declared(&kernel).await, ["nsm-1"], "a failed refresh leaves what was");
        chain.request(Request::new(named("nsm-2"))).await.unwrap();
        assert_eq!(declared(&kernel).await, ["nsm-2"]);
        let mut noop = named("x");
        noop.mechanism = Some(Mechanism::local(MechanismKind::Noop));
        chain.request(Request::new(noop)).await.unwrap();
        assert!(declared(&kernel).await.is_empty(), "no link, no port");
        let error = chain.request(Request::new(named("sixteen-letters-"))).await.unwrap_err();
        assert!(error.to_string().contains("`sixteen-letters-` is not an interface name"), "{error}");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_next_hop_whose_first_answer_names_no_interface_is_closed() {
        let tasks = Tasks::default();
        let closes = Arc::new(AtomicUsize::new(0));
        let kernel = kernel(&tasks);
        let counted = Arc::clone(&closes);
        let end = tower::service_fn(move |call: Call| {
            match &call {
                Call::Request(Request { connection, context, .. }) => {
                    context.scope.insert(Answered::with((**connection).clone()));
                }
                Call::Close(_) => _ = counted.fetch_add(1, SeqCst),
            }
            async { Ok::<_, Error>(call.into_connection()) }
        });
        let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
        let chain = rows.with(Client::new(kernel)).end(end).build().unwrap();
        let error = chain.request(Request::new(named("sixteen-letters-"))).await.unwrap_err();
        assert!(error.to_string().contains("`sixteen-letters-` is not an interface name"), "{error}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(closes.load(SeqCst), 1);
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn both_keep_the_laws() {
        let tasks = Tasks::default();
        let kernel = kernel(&tasks);
        let given = |c: &mut Connection, _: &mut _| linked(c, "nsm-1");
        let ports = || kernel.status().borrow().pending.len();
        laws::check_with(|| Given(Endpoint::new(kernel.clone()), given), ports).await.unwrap();
        laws::check_with(|| Given(Client::new(kernel.clone()), given), ports).await.unwrap();
        tasks.stop().await;
    }
}
