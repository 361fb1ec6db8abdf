// SPDX-License-Identifier: Apache-2.0

//! Tests both elements over leases of an allocator in memory.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{Client, Endpoint, Gateways, Listed};
use crate::{
    api::{Connection, Dual, Family},
    chain::{
        Call, Chain, Close, Element, Error, Next, Owner, Request, begin::BeginLayer, laws,
        metadata::MetadataLayer,
    },
    ipam::{AllocateError, Fault, Faults, InMemory, Leases, PORTS, Settings, Subnet, Tree},
    task::Tasks,
    testing,
};

mod moving;

fn leases(tasks: &Tasks) -> (Leases, Faults) {
    let tree = Tree::new("trench-a");
    tree.add_conduit("lb").unwrap();
    let subnet = Subnet { trench: "trench-a".into(), conduit: "lb".into(), node: "node-a".into() };
    let memory = InMemory::new(tree, subnet);
    let faults = memory.faults().clone();
    (Leases::start(memory, Settings::default(), tasks), faults)
}

fn bridge() -> (watch::Sender<Gateways>, watch::Receiver<Gateways>) {
    watch::channel(Dual { v4: "169.255.0.254/24".parse().ok(), v6: "fd00::fe/64".parse().ok() }.into())
}

/// No list of VIPs.
fn vips() -> watch::Receiver<Listed> {
    watch::channel(None).1
}

fn chain(element: impl Element, tasks: &Tasks) -> Next {
    let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
    let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
    rows.with(element).end(end).build().unwrap()
}

/// A connection whose own id differs from that of the client that started it.
fn target() -> Box<Connection> {
    let mut connection = Connection::named("own");
    testing::path(&mut connection, 1, &[None, None]);
    connection.path_mut().path_segments[0].id = "target-a".into();
    connection
}

#[tokio::test(start_paused = true)]
async fn a_refresh_makes_no_call_and_the_addresses_stay() {
    let tasks = Tasks::default();
    let ((leases, faults), (_sender, gateways)) = (leases(&tasks), bridge());
    let chain = chain(Endpoint::new(leases, gateways, vips()), &tasks);
    let first = chain.request(Request::new(target())).await.unwrap();
    assert_eq!(faults.calls().allocate, 4);
    faults.stand(Fault::Fail(AllocateError::Unavailable("down".into())));
    for _refresh in 0..3 {
        assert_eq!(chain.request(Request::new(first.clone())).await.unwrap(), first);
    }
    assert_eq!(faults.calls().allocate, 4);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn l05_addresses_of_one_link_are_allocated_at_once() {
    let tasks = Tasks::default();
    let ((leases, faults), (_sender, gateways)) = (leases(&tasks), bridge());
    faults.stand(Fault::Delay(Duration::from_secs(2)));
    let chain = chain(Endpoint::new(leases, gateways, vips()), &tasks);
    let start = Instant::now();
    chain.request(Request::new(target())).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn b14_the_client_that_started_the_connection_names_its_lease() {
    let tasks = Tasks::default();
    let ((leases, _), (_sender, gateways)) = (leases(&tasks), bridge());
    let endpoint = chain(Endpoint::new(leases.clone(), gateways, vips()), &tasks);
    let as_target = endpoint.request(Request::new(target())).await.unwrap();
    let again = chain(Client::new(leases.clone()), &tasks);
    let swapped = again.request(Request::new(target())).await.unwrap();
    let target = as_target.ip_context().unwrap();
    let balancer = swapped.ip_context().unwrap();
    assert_eq!(target.src_ip_addrs, balancer.dst_ip_addrs);
    assert_eq!(leases.status().borrow().held, 3, "the second chain holds the same one");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_joins_allocates_its_own_addresses_only() {
    let tasks = Tasks::default();
    let ((leases, faults), (_sender, gateways)) = (leases(&tasks), bridge());
    let ahead = leases.acquire(PORTS, Instant::now() + Duration::from_secs(1)).await.unwrap();
    let chain = chain(Endpoint::new(leases.clone(), gateways, vips()), &tasks);
    for number in 1..=3 {
        let mut joining = target();
        joining.id = format!("own-{number}");
        joining.path_mut().path_segments[0].id = format!("target-{number}");
        let answer = chain.request(Request::new(joining)).await.unwrap();
        let ports: Vec<_> = ahead.addresses().iter().map(|(_, net)| net.to_string()).collect();
        assert_eq!(answer.ip_context().unwrap().dst_ip_addrs, ports);
        assert_eq!(faults.calls().allocate, 2 + 2 * number);
    }
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_vip_that_is_listed_within_a_second_is_answered() {
    let tasks = Tasks::default();
    let ((leases, _), (_sender, gateways)) = (leases(&tasks), bridge());
    let list = |vips: &[&str]| Some(vips.iter().map(|vip| vip.parse().unwrap()).collect());
    let (publish, vips) = watch::channel(list(&["20.0.0.1/32"]));
    let chain = chain(Endpoint::new(leases, gateways, vips), &tasks);
    let mut carrying = chain.request(Request::new(target())).await.unwrap();
    let sent = ["20.0.0.1/32", "20.0.0.2/32", "10.96.0.10/32"].map(str::to_owned);
    carrying.ip_context_mut().src_ip_addrs.extend(sent);
    let listed = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        publish.send_replace(list(&["20.0.0.1/32", "20.0.0.2/32"]));
    };
    let start = Instant::now();
    let (answer, ()) = tokio::join!(chain.request(Request::new(carrying)), listed);
    let answer = answer.unwrap();
    assert_eq!(answer.ip_context().unwrap().src_ip_addrs[2..], ["20.0.0.1/32", "20.0.0.2/32"]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_does_not_wait_for_a_vip_to_be_listed() {
    let tasks = Tasks::default();
    let ((leases, _), (_sender, gateways)) = (leases(&tasks), bridge());
    let list = |vips: &[&str]| Some(vips.iter().map(|vip| vip.parse().unwrap()).collect());
    let (publish, vips) = watch::channel(list(&["20.0.0.1/32", "20.0.0.2/32"]));
    let chain = chain(Endpoint::new(leases, gateways, vips), &tasks);
    let mut carrying = target();
    let carried = ["20.0.0.1/32", "20.0.0.2/32"].map(str::to_owned);
    carrying.ip_context_mut().src_ip_addrs.extend(carried);
    let answer = chain.request(Request::new(carrying)).await.unwrap();
    publish.send_replace(list(&["20.0.0.1/32"]));
    let start = Instant::now();
    for _refresh in 0..2 {
        let refreshed = chain.request(Request::new(answer.clone())).await.unwrap();
        assert_eq!(refreshed.ip_context().unwrap().src_ip_addrs[2..], ["20.0.0.1/32"]);
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "the second one has left the list");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn clients_of_one_name_have_addresses_of_their_own() {
    let tasks = Tasks::default();
    let ((leases, _), (_sender, gateways)) = (leases(&tasks), bridge());
    let chain = chain(Endpoint::new(leases, gateways, vips()), &tasks);
    let ask = async |namespace: &str| {
        let mut request = Request::new(target());
        request.connection.id = format!("own-{namespace}");
        request.context.extensions.insert(Owner::new(format!("spiffe://a.test/ns/{namespace}/pod/target-a")));
        let answer = chain.request(request).await.unwrap();
        let ip = answer.ip_context().unwrap();
        ip.src_ip_addrs.clone()
    };
    let red = ask("red").await;
    let blue = ask("blue").await;
    assert!(red.iter().all(|address| !blue.contains(address)), "{red:?} {blue:?}");
    assert_eq!((ask("red").await, ask("blue").await), (red, blue), "a refresh changes nothing");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn g17_a_target_needs_a_gateway_of_every_family() {
    let v4 = "169.255.0.254/24".parse().ok();
    for (gateways, family) in [(Dual::NONE, "IP"), (Dual { v4, v6: None }, "IPv6")] {
        let tasks = Tasks::default();
        let ((leases, _), (sender, receiver)) = (leases(&tasks), watch::channel(gateways.into()));
        let chain = chain(Endpoint::new(leases, receiver, vips()), &tasks);
        let error = chain.request(Request::new(target())).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unavailable);
        assert!(error.to_string().contains(&format!("no {family} address")), "{error}");
        sender.send_replace(Dual { v4, v6: "fd00::fe/64".parse().ok() }.into());
        chain.request(Request::new(target())).await.unwrap();
        tasks.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_address_service_reach_the_caller() {
    use tonic::Code;
    let table = [
        (
            AllocateError::Exhausted("no more prefix available".into()),
            Code::ResourceExhausted,
            "no more prefix",
        ),
        (AllocateError::Unavailable("connection refused".into()), Code::Unavailable, "connection refused"),
        (AllocateError::Refused("no such trench".into()), Code::Unknown, "no such trench"),
        (
            AllocateError::Garbage {
                value: "banana/24".into(),
                problem: "not an address".into(),
                family: Family::V4,
            },
            Code::Unavailable,
            "`banana/24`",
        ),
        (AllocateError::Deadline, Code::Unavailable, "in time"),
    ];
    for (fault, code, text) in table {
        let tasks = Tasks::default();
        let (leases, faults) = leases(&tasks);
        faults.stand(Fault::Fail(fault));
        let error = chain(Client::new(leases), &tasks).request(Request::new(target())).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(text) && error.to_string().contains("target-a-"), "{error}");
        tasks.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn b17_leases_end_some_time_after_the_close_not_with_it() {
    let tasks = Tasks::default();
    let (leases, faults) = leases(&tasks);
    let chain = chain(Client::new(leases.clone()), &tasks);
    chain.request(Request::new(target())).await.unwrap();
    chain.close(Close::new(target())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert_eq!((leases.status().borrow().releasing, faults.calls().release), (2, 0));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((leases.status().borrow().releasing, faults.calls().release), (0, 4));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn both_keep_the_laws() {
    let tasks = Tasks::default();
    let ((leases, _), (_sender, gateways)) = (leases(&tasks), bridge());
    // Releases are due after 20 s; until then leases of earlier laws count as releasing, not as
    // held.
    let held = || leases.status().borrow().held;
    laws::check_with(|| Client::new(leases.clone()), held).await.unwrap();
    laws::check_with(|| Endpoint::new(leases.clone(), gateways.clone(), vips()), held).await.unwrap();
    tasks.stop().await;
}
