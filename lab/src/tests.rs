// SPDX-License-Identifier: Apache-2.0
//! Tests nsmgr, forwarder, an endpoint and a client, over real sockets and links, without the
//! proxy.

use std::time::Duration;

use super::{
    control_plane::{
        forwarder::Forwarder,
        hop::Hop,
        nsmgr::Nsmgr,
        registration::{Kept, dialer},
    },
    identity::agent::Agent,
    network::NEEDS,
    pods::{ground::Ground, hosted::Hosted, pod::Pod},
    topology::{NODE, proxy_service},
    world::target::Target,
};
use nsm::{
    api::{Connection, pb::registry::NetworkService},
    chain::{Element, Next, Request, Result},
    elements::{
        mechanism::{self, Names},
        send_fd,
    },
    server::{self, monitor::Connections},
    task::Tasks,
    transport,
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Assigns addresses as the proxy's `ipam` does for a target, with one lease.
struct Addresses;

impl Element for Addresses {
    const NAME: &'static str = "ipam";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        request.connection.context_mut().mtu = 1400;
        let ip = request.connection.ip_context_mut();
        if ip.src_ip_addrs.is_empty() {
            ip.src_ip_addrs = vec!["172.16.1.6/24".into(), "fd00:0:0:1::6/64".into()];
            ip.dst_ip_addrs = vec!["172.16.1.7/24".into(), "fd00:0:0:1::7/64".into()];
            ip.extra_prefixes = vec!["172.16.1.1/24".into(), "fd00:0:0:1::1/64".into()];
        }
        next.request(request).await
    }
}

struct World {
    tasks: Tasks,
    nsmgr: Nsmgr,
    forwarder: Forwarder,
    endpoint: (Hop, Hosted, Kept, Connections),
    target: Target,
    pods: [Pod; 3],
    _agent: Agent,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ground = Ground::unnamed(folder.path());
        let tasks = Tasks::default();
        let mut agent = Agent::new().unwrap();
        let node = Pod::new("forwarder", &ground).await.expect(NEEDS);
        let proxy = Pod::new("proxy", &ground).await.unwrap();
        let target = Pod::new("t1", &ground).await.unwrap();
        let manager = Pod::new("nsmgr", &ground).await.unwrap();

        let identity = agent.identity(&manager.name, &manager.folder, &tasks).unwrap();
        let nsmgr = Nsmgr::start(&manager, &manager.folder, NODE, identity).unwrap();
        let identity = agent.identity(&node.name, &node.folder, &tasks).unwrap();
        let forwarder = Forwarder::start(&node, &nsmgr.target, identity).unwrap();
        forwarder.registered(TIMEOUT).await.unwrap();

        let hop = Hop::new("proxy");
        let connections = Connections::default();
        let identity = agent.identity(&proxy.name, &proxy.folder, &tasks).unwrap();
        let chain = hop
            .endpoint(&connections)
            .with(mechanism::Endpoint::new(Names::new(|_| false)))
            .with(Addresses)
            .with(send_fd::Endpoint::new(send_fd::Netns::of(proxy.netns.descriptor()).unwrap()))
            .build()
            .unwrap();
        let routes = server::Endpoint::new(chain, connections.clone()).routes();
        let socket = proxy.folder.join("listen.on");
        let dialer = dialer(&nsmgr.target, &identity);
        let listen = transport::Address::Unix(socket.clone());
        let hosted = Hosted::start(&proxy.netns, &listen, identity, routes).unwrap();
        let service =
            NetworkService { name: proxy_service(), payload: "ETHERNET".into(), ..Default::default() };
        let kept = Kept::start(dialer, "proxy", &[], service, socket);
        kept.registered(TIMEOUT).await.unwrap();

        let identity = agent.identity(&target.name, &target.folder, &tasks).unwrap();
        let client = Target::new(&target, NODE, &nsmgr.target, identity).unwrap();
        let endpoint = (hop, hosted, kept, connections);
        let pods = [node, proxy, target];
        Self { tasks, nsmgr, forwarder, endpoint, target: client, pods, _agent: agent, _folder: folder }
    }

    /// Names and addresses of the links of a pod, beside the loopback.
    async fn links(&self, pod: usize) -> Vec<String> {
        let netlink = &self.pods[pod].netlink;
        let mut shown = Vec::new();
        for link in netlink.links().await.unwrap().iter().filter(|link| link.name != "lo") {
            let mut addresses: Vec<String> =
                netlink.addresses(link.index).await.unwrap().iter().map(ToString::to_string).collect();
            addresses.sort();
            shown.push(format!("{} {}", link.alias, addresses.join(" ")));
        }
        shown
    }

    async fn stop(self) {
        self.target.stop().await;
        let (hop, hosted, kept, _) = self.endpoint;
        kept.unregister().await;
        hosted.stop().await;
        hop.tasks.stop().await;
        self.forwarder.stop().await;
        self.nsmgr.stop().await;
        self.tasks.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_reaches_an_endpoint_and_its_link_follows() {
    let mut world = World::new().await;
    let id = format!("t1-{}-0", proxy_service());
    world.target.connect().await.unwrap();
    let segments: Vec<_> =
        world.target.connection().unwrap().segments().iter().map(|s| s.name.clone()).collect();
    assert_eq!(segments, ["t1", "nsmgr", "forwarder", "proxy"]);
    assert_eq!(world.links(1).await, [format!("client-{id} 172.16.1.7/24 fd00:0:0:1::7/64")]);
    assert_eq!(world.links(2).await, [format!("server-{id} 172.16.1.6/24 fd00:0:0:1::6/64")]);
    let link = world.pods[2].netlink.index("nsm-0").await.unwrap();

    let vips = ["20.0.0.1", "2001:db8:20::1"].map(|vip| vip.parse().unwrap());
    world.target.set_vips(&vips).await.unwrap();
    let carried = "172.16.1.6/24 20.0.0.1/32 2001:db8:20::1/128 fd00:0:0:1::6/64";
    assert_eq!(world.links(2).await, [format!("server-{id} {carried}")]);
    assert_eq!(world.pods[2].netlink.extra_rules().await.unwrap().len(), 2);
    assert_eq!(world.pods[2].netlink.count_extra_routes().await.unwrap(), 2);

    for _ in 0..3 {
        world.target.connect().await.unwrap();
    }
    assert_eq!(world.pods[2].netlink.index("nsm-0").await.unwrap(), link, "a refresh keeps the link");
    world.target.set_vips(&vips[..1]).await.unwrap();
    // Former policies are removed when the Request has been answered.
    let end = tokio::time::Instant::now() + TIMEOUT;
    let mut rules = world.pods[2].netlink.extra_rules().await.unwrap();
    while rules.len() != 1 {
        assert!(tokio::time::Instant::now() < end, "{rules:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        rules = world.pods[2].netlink.extra_rules().await.unwrap();
    }

    world.target.close().await.unwrap();
    for pod in 0..3 {
        assert_eq!(world.links(pod).await, [""; 0], "pod {pod}");
        assert_eq!(world.pods[pod].netlink.extra_rules().await.unwrap(), []);
    }
    assert_eq!(
        (world.nsmgr.connections.len(), world.forwarder.connections.len(), world.endpoint.3.len()),
        (0, 0, 0)
    );
    world.stop().await;
}

#[tokio::test]
async fn a_pod_begins_without_the_state_of_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let ground = Ground::unnamed(folder.path());
    let earlier = Pod::new("proxy", &ground).await.expect(NEEDS);
    let kept = earlier.state().unwrap().join("snapshot");
    std::fs::write(&kept, "kept").unwrap();
    assert!(earlier.state().unwrap().join("snapshot").exists(), "processes share the state of their pod");
    drop(earlier);
    let pod = Pod::new("proxy", &ground).await.unwrap();
    assert_eq!(pod.state().unwrap(), kept.parent().unwrap());
    assert!(!kept.exists());
}
