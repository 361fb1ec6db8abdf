// SPDX-License-Identifier: Apache-2.0

//! Tests an address service that loses its store and returns another subnet.

use std::sync::{Arc, Mutex};

use tokio::time::sleep;

use super::*;

const RENEWED: Duration = Duration::from_secs(680);

/// Leases, and the tree that they come from.
fn with_tree(tasks: &Tasks) -> (Leases, Tree) {
    let tree = Tree::new("trench-a");
    tree.add_conduit("lb").unwrap();
    let subnet = Subnet { trench: "trench-a".into(), conduit: "lb".into(), node: "node-a".into() };
    (Leases::start(InMemory::new(tree.clone(), subnet), Settings::default(), tasks), tree)
}

/// From now on the conduit has another subnet, in both families.
fn forget(tree: &Tree) {
    tree.remove_conduit("lb");
    tree.add_conduit("other").unwrap();
    tree.add_conduit("lb").unwrap();
}

fn dual(v4: &str, v6: &str) -> Dual<ipnet::IpNet> {
    Dual { v4: v4.parse().ok(), v6: v6.parse().ok() }
}

#[tokio::test(start_paused = true)]
async fn a_target_keeps_its_gateway_until_its_own_addresses_move() {
    let tasks = Tasks::default();
    let ((leases, tree), (publish, gateways)) = (with_tree(&tasks), bridge());
    let chain = chain(Endpoint::new(leases.clone(), gateways, vips()), &tasks);
    let first = chain.request(Request::new(target())).await.unwrap();
    let gateway = |answer: &Connection| answer.ip_context().unwrap().extra_prefixes.clone();
    let before = gateway(&first);

    let other = dual("169.255.16.254/24", "fd00:0:0:100::fe/64");
    publish.send_modify(|gateways| gateways.move_to(other));
    let refreshed = chain.request(Request::new(first.clone())).await.unwrap();
    assert_eq!((gateway(&refreshed), &refreshed), (before, &first), "its addresses are in the former subnet");

    forget(&tree);
    sleep(RENEWED).await;
    let moved = chain.request(Request::new(refreshed)).await.unwrap();
    assert_eq!(gateway(&moved), ["169.255.16.254/24", "fd00:0:0:100::fe/64"]);
    assert!(moved.ip_context().unwrap().src_ip_addrs[0].starts_with("169.255.16."), "{moved:?}");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_is_not_answered_with_a_gateway_of_another_subnet() {
    let tasks = Tasks::default();
    let ((leases, tree), (publish, gateways)) = (with_tree(&tasks), bridge());
    let chain = chain(Endpoint::new(leases, gateways, vips()), &tasks);
    forget(&tree);
    let error = chain.request(Request::new(target())).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    assert!(error.to_string().contains("no IPv4 address in the subnet of 169.255.16."), "{error}");
    publish.send_modify(|gateways| gateways.move_to(dual("169.255.16.254/24", "fd00:0:0:100::fe/64")));
    chain.request(Request::new(target())).await.unwrap();
    tasks.stop().await;
}

/// The lists of both sides of every Request that reaches the end of a chain, one line for each.
fn client_chain(leases: &Leases, tasks: &Tasks) -> (Next, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&requests);
    let end = tower::service_fn(move |call: Call| {
        let ip = call.connection().ip_context().cloned().unwrap_or_default();
        let line = match &call {
            Call::Request(_) => format!("{} of {}", ip.dst_ip_addrs.join(" "), call.connection().id),
            Call::Close(_) => format!("close {}", call.connection().id),
        };
        seen.lock().unwrap().push(line);
        async { Ok::<_, Error>(call.into_connection()) }
    });
    let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
    (rows.with(Client::new(leases.clone())).end(end).build().unwrap(), requests)
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_has_former_addresses_until_targets_move() {
    let tasks = Tasks::default();
    let (leases, tree) = with_tree(&tasks);
    let (chain, requests) = client_chain(&leases, &tasks);
    chain.request(Request::new(Connection::named("lb-1"))).await.unwrap();
    let lease = |n: u8| leases.acquire(["target-src", "lb-1-src"][usize::from(n)], Instant::now() + RENEWED);
    let target = lease(0).await.unwrap();
    let old = lease(1).await.unwrap().addresses();
    forget(&tree);
    sleep(RENEWED).await;
    let new = lease(1).await.unwrap().addresses();
    let texts = |nets: &[Dual<ipnet::IpNet>]| {
        let nets = nets.iter().flat_map(Dual::iter).map(|(_, net)| net.to_string());
        nets.collect::<Vec<_>>().join(" ") + " of lb-1"
    };
    let both = std::mem::take(&mut *requests.lock().unwrap());
    assert!(both.iter().all(|line| !line.starts_with("close")), "the link stays: {both:?}");
    assert_eq!(both.last(), Some(&texts(&[new, old])), "a target is in the former subnet");

    drop((target, lease(0).await.unwrap()));
    sleep(Duration::from_secs(60)).await;
    let after = requests.lock().unwrap().clone();
    assert_eq!(after, [texts(&[new])], "the target has left it");
    assert!(leases.status().borrow().moved.is_empty());
    tasks.stop().await;
}
