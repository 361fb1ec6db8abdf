// SPDX-License-Identifier: Apache-2.0

//! A misbehaving load balancer, called through the chain of the proxy.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::time::{Instant, sleep};
use tonic::Status;

use super::*;
use crate::{
    api::{InterfaceName, pb::registry::NetworkServiceEndpoint},
    chain::Call,
    elements::heal::Verdict,
    ipam::{self, Faults, InMemory, Subnet, Tree},
    proxy::mesh::{self, Mesh, Recovery},
    registry::{
        discovery::{self, Discovery},
        twin::Twin,
    },
    transport::DialError,
};

const S: fn(u64) -> Duration = Duration::from_secs;

/// A load balancer as in Meridio: of several links from one proxy it sets all but the newest down.
#[derive(Clone, Default)]
struct Balancer {
    linux: Memory,
    refuses: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    /// Number of links made so far.
    made: Arc<AtomicUsize>,
    links: Arc<Mutex<Vec<InterfaceName>>>,
}

impl Balancer {
    fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, SeqCst);
    }

    fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    fn made(&self) -> usize {
        self.made.load(SeqCst)
    }

    fn request(&self, mut connection: Box<Connection>) -> Box<Connection> {
        let name = connection.mechanism.as_ref().and_then(Mechanism::interface).unwrap();
        let mut links = self.links.lock().unwrap();
        if !links.contains(&name) {
            for older in links.drain(..) {
                self.linux.change(|world| world.set_running(&older, false));
            }
            self.linux.add_link(name.as_str(), None);
            self.made.fetch_add(1, SeqCst);
            links.push(name);
        }
        connection.set_state(State::Up);
        connection
    }

    fn close(&self, connection: Box<Connection>) -> Box<Connection> {
        if let Some(name) = connection.mechanism.as_ref().and_then(Mechanism::interface) {
            self.linux.remove_link(name.as_str());
            self.links.lock().unwrap().retain(|link| *link != name);
        }
        connection
    }

    fn call(&self, call: Call) -> Result<Box<Connection>> {
        match call {
            Call::Close(close) => Ok(self.close(close.connection)),
            Call::Request(_) if self.refuses.load(SeqCst) => {
                self.requests.fetch_add(1, SeqCst);
                Err(Status::unknown("no candidates found").into())
            }
            Call::Request(mut request) => {
                self.requests.fetch_add(1, SeqCst);
                let mechanism = &mut request.connection.mechanism;
                *mechanism = mechanism.take().or(request.preferences.into_iter().next());
                Ok(self.request(request.connection))
            }
        }
    }

    /// The chain that calls it.
    fn chain(&self, parts: &Parts) -> Next {
        let balancer = self.clone();
        let end = tower::service_fn(move |call: Call| std::future::ready(balancer.call(call)));
        client(parts).end(end).build().unwrap()
    }
}

/// A proxy without connections, and the calls to its IPAM.
async fn proxy(linux: &Memory) -> (Proxy, Faults) {
    let mut proxy = Proxy::new("px").await;
    let tasks = &proxy.parts.tasks;
    let tree = Tree::new("trench");
    tree.add_conduit("conduit").unwrap();
    let subnet = Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() };
    let allocator = InMemory::new(tree, subnet);
    let faults = allocator.faults().clone();
    let settings = ipam::Settings { renew: S(36_000), ..ipam::Settings::default() };
    proxy.parts.leases = Leases::start(allocator, settings, tasks);
    let soon = CallContext::within(LIFETIME).deadline;
    proxy._bridge = proxy.parts.leases.acquire(BRIDGE, soon).await.unwrap();
    proxy.parts.kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), tasks);
    proxy.parts.kernel.set_gateways(proxy._bridge.addresses());
    proxy.linux = linux.clone();
    (proxy, faults)
}

#[tokio::test(start_paused = true)]
async fn a_dead_load_balancer_costs_no_call_to_ipam() {
    let balancer = Balancer::default();
    let (proxy, faults) = proxy(&balancer.linux).await;
    let chain = balancer.chain(&proxy.parts);
    let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
    let context = CallContext::within(S(15));
    let first = Request { connection: Connection::named("px-lb-1"), preferences, context };
    let answer = chain.request(first).await.unwrap();
    let link = answer.mechanism.as_ref().and_then(Mechanism::interface).unwrap();
    proxy.parts.kernel.settled().await;
    let calls = faults.calls();
    let requests = balancer.requests();
    balancer.refuse(true);
    balancer.linux.remove_link(link.as_str());
    sleep(S(600)).await;
    assert!(balancer.requests() >= requests + 30, "{}", balancer.requests());
    assert_eq!(faults.calls(), calls);
    balancer.refuse(false);
    sleep(S(30)).await;
    let kernel = proxy.parts.kernel.status().borrow().clone();
    assert_eq!((kernel.next_hops.families().count(), kernel.ports.len()), (2, 1), "made again");
    assert_eq!(faults.calls(), calls);
    proxy.parts.tasks.stop().await;
}

/// A recovery that finds no connection of an earlier process.
#[derive(Clone)]
struct Nothing;

impl Recovery for Nothing {
    async fn find(&self, _: &str) -> Result<Option<Box<Connection>>, DialError> {
        Ok(None)
    }

    async fn verdict(&self, _: &Connection) -> Verdict {
        Verdict::Unknown
    }

    async fn withdraw(&self, _: &Connection) {}
}

fn endpoint_of(name: &str) -> NetworkServiceEndpoint {
    NetworkServiceEndpoint {
        name: name.into(),
        network_service_names: vec!["lb.t.ns".into()],
        url: "tcp://10.0.0.1:5001".into(),
        expiration_time: Some((std::time::SystemTime::now() + S(3600)).into()),
        ..Default::default()
    }
}

/// Watches the next hops for a while; returns the longest time without any.
async fn longest_gap(kernel: &Kernel, during: Duration) -> Duration {
    const LOOK: Duration = Duration::from_millis(20);
    let end = Instant::now() + during;
    let mut last = Instant::now();
    let mut longest = Duration::ZERO;
    while Instant::now() < end {
        if kernel.status().borrow().next_hops.v4.as_ref().is_some_and(|hops| !hops.is_empty()) {
            last = Instant::now();
        }
        longest = longest.max(last.elapsed());
        sleep(LOOK).await;
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_under_two_names_carries_traffic() {
    let balancer = Balancer::default();
    let (proxy, _) = proxy(&balancer.linux).await;
    let Parts { kernel, leases, tasks, .. } = proxy.parts.clone();
    let registry = Twin::default();
    let alive: discovery::Dead = Arc::new(|_| false);
    let discovery = Discovery::start(registry.clone(), "lb.t.ns", alive, discovery::Settings::default());
    let settings =
        mesh::Settings { name: "px".into(), network_service: "lb.t.ns".into(), request_timeout: S(15) };
    let status = watch::Sender::new(mesh::Status::default());
    let chain = balancer.chain(&proxy.parts);
    let mesh = Mesh::start(settings, chain, Nothing, discovery.known(), status, &tasks);
    registry.put(endpoint_of("lb-1"));
    registry.put(endpoint_of("lb-1-again"));
    sleep(S(2)).await;
    assert_eq!(mesh.status().borrow().connected(), 2, "{}", *mesh.status().borrow());

    // Each link that is made again takes the other one down.
    let gap = longest_gap(&kernel, S(600)).await;
    assert!(gap <= S(1), "no next hop for {gap:?}");
    let made = balancer.made();
    assert!((2..=60).contains(&made), "{made} links in ten minutes");

    registry.lapse("lb-1");
    sleep(S(40)).await; // the other link may have to be made first, and the addresses be released
    let made = balancer.made();
    assert_eq!(longest_gap(&kernel, S(60)).await, Duration::ZERO);
    assert_eq!((mesh.status().borrow().connected(), balancer.made()), (1, made), "nothing moves");
    assert_eq!(leases.status().borrow().held, 3, "those of the bridge and of one connection");
    tasks.stop().await;
}
