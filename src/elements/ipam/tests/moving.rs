// SPDX-License-Identifier: Apache-2.0

//! An address service that loses its store and answers another subnet.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

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

#[tokio::test(start_paused = true)]
async fn moved_load_balancers_are_made_anew_one_at_a_time() {
    let tasks = Tasks::default();
    let (leases, tree) = with_tree(&tasks);
    let (calls, away, most) =
        (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (seen, closed, high) = (calls.clone(), away.clone(), most.clone());
    let end = tower::service_fn(move |call: Call| {
        let (seen, closed, high) = (seen.clone(), closed.clone(), high.clone());
        async move {
            sleep(Duration::from_secs(1)).await;
            let own = call.connection().ip_context().map(|ip| ip.src_ip_addrs.concat()).unwrap_or_default();
            match &call {
                Call::Close(_) => high.fetch_max(closed.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst),
                Call::Request(_) => {
                    seen.lock().unwrap().push(own);
                    closed.fetch_sub(closed.load(Ordering::SeqCst).min(1), Ordering::SeqCst)
                }
            };
            Ok::<_, Error>(call.into_connection())
        }
    });
    let rows =
        Chain::new().layer("begin", BeginLayer::client(tasks.clone())).layer("metadata", MetadataLayer);
    let chain = rows.with(Client::new(leases.clone())).build(end).unwrap();
    for n in 0..3 {
        chain.request(Request::new(Connection::named(format!("lb-{n}")))).await.unwrap();
    }
    let old = std::mem::take(&mut *calls.lock().unwrap());
    assert!(old.iter().all(|own| own.starts_with("169.255.0.")), "{old:?}");
    forget(&tree);
    sleep(RENEWED).await;
    let new = calls.lock().unwrap().clone();
    assert!(new.len() == 3 && new.iter().all(|own| own.starts_with("169.255.16.")), "{new:?}");
    assert_eq!((most.load(Ordering::SeqCst), away.load(Ordering::SeqCst)), (1, 0), "one at a time");
    assert!(leases.status().borrow().moved.is_empty());
    tasks.stop().await;
}
