// SPDX-License-Identifier: Apache-2.0

//! Tests the promises of the builder.

use std::time::Duration;

use nsm::{
    chain::{
        Chain, Element, InvalidChain, Named, Order, Reason, Tail, begin::BeginLayer, metadata::MetadataLayer,
    },
    task::Tasks,
};
use tower::{
    ServiceBuilder, layer::util::Identity, limit::GlobalConcurrencyLimitLayer, timeout::TimeoutLayer,
};

use crate::{
    samples::{Mtu, Refresh},
    world::{World, request},
};

#[test]
fn a_chain_prints_its_rows() {
    let chain = Chain::new()
        .with(BeginLayer::client(Tasks::default()))
        .with(Mtu(1500))
        .layer("timeout", TimeoutLayer::new(Duration::from_secs(1)));
    assert_eq!(chain.to_string(), "begin → mtu → timeout");
}

struct Connect;
impl Element for Connect {
    const NAME: &'static str = "connect";
    const ORDER: Order = Order::ANY.after(&["mtu"]);
}

/// Keeps state.
struct Pool;
impl Element for Pool {
    const NAME: &'static str = "pool";
    const ORDER: Order = Order::STATE;
}

#[tokio::test]
async fn a_wrong_order_is_refused_by_both_names() {
    let refresh = || Refresh(Duration::from_secs(1));
    let begin = || BeginLayer::client(Tasks::default());
    let world = World::default();
    let cases = [
        (Chain::new().with(refresh()).with(begin()), ("begin", "refresh", "refresh")),
        (Chain::new().with(Connect).with(refresh()), ("refresh", "connect", "refresh")),
        (Chain::new().with(Connect).with(Mtu(1)), ("mtu", "connect", "connect")),
    ];
    for (chain, (first, second, by)) in cases {
        let wrong = chain.end(world.service()).build().err();
        assert_eq!(wrong, Some(InvalidChain::Order { first, second, by }));
        println!("{}", wrong.unwrap());
    }
    let right = Chain::new().with(begin()).with(refresh()).with(Connect);
    assert!(right.end(world.service()).build().is_ok());
}

#[tokio::test(start_paused = true)]
async fn stock_layers_are_rows_and_their_errors_are_ours() {
    let world = World::default();
    world.script([(500, false)]);
    let chain = Chain::new()
        .with(Mtu(1500))
        .layer("timeout", TimeoutLayer::new(Duration::from_millis(20)))
        .with(Refresh(Duration::from_secs(1)))
        .end(world.service())
        .build()
        .unwrap();
    let error = chain.request(request("a", 1000)).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Deadline));
    assert_eq!(error.row(), Some("timeout"));
}

#[tokio::test(start_paused = true)]
async fn load_shed_and_its_limit_are_one_row() {
    let world = World::default();
    world.script([(50, false), (50, false)]);
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let shed = ServiceBuilder::new().load_shed().layer(limit).into_inner();
    let chain = Chain::new().layer("shed", shed).with(Mtu(1500));
    let chain = chain.end(world.service()).build().unwrap();
    let (one, two) = tokio::join!(chain.request(request("a", 1000)), chain.request(request("b", 1000)));
    assert!(one.is_ok());
    assert!(matches!(two.unwrap_err().reason(), Reason::Overloaded));
}

#[test]
fn a_row_that_another_needs_is_missed_by_name() {
    let begin = || Chain::new().with(BeginLayer::client(Tasks::default()));
    let cases = [
        (Chain::new().with(Pool), ("pool", "begin", "pool")),
        (begin().with(Pool), ("pool", "metadata", "begin → pool")),
        (Chain::new().with(MetadataLayer).with(Pool), ("metadata", "begin", "metadata → pool")),
        // a layer under another name is another row
        (begin().layer("metadta", MetadataLayer).with(Pool), ("pool", "metadata", "begin → metadta → pool")),
    ];
    for (chain, (row, needs, rows)) in cases {
        let missing = InvalidChain::Missing { row, needs, rows: rows.into() };
        assert_eq!(chain.build().err(), Some(missing));
    }
    let late = begin().with(Pool).with(MetadataLayer).build().err();
    assert_eq!(late, Some(InvalidChain::Order { first: "metadata", second: "pool", by: "pool" }));
    assert!(begin().with(MetadataLayer).with(Pool).build().is_ok());
}

#[test]
fn two_rows_of_one_name_are_refused() {
    let twice = Chain::new().with(Mtu(1500)).layer("other", Identity::new()).with(Mtu(9000)).build().err();
    assert_eq!(twice, Some(InvalidChain::Twice { row: "mtu" }));
}

#[test]
fn a_change_of_a_row_that_is_not_there_is_refused() {
    let chain = || Chain::new().with(Mtu(1500));
    for change in [chain().without("mut"), chain().before("mut", Connect), chain().replace("mut", Connect)] {
        let unknown = InvalidChain::Unknown { row: "mut".into(), rows: "mtu".into() };
        assert_eq!(change.append(Connect).build().err(), Some(unknown));
    }
}

#[test]
fn rows_are_appended_in_the_slot_in_their_order() {
    let named = |name| Named(name, Identity::new());
    let chain = Chain::new().with(named("a")).with(named("b")).slot().with(named("z")).end(Tail);
    let chain = chain.append(named("c")).before("a", named("first")).append(named("d"));
    assert_eq!(chain.to_string(), "first → a → b → c → d → z → tail");
    let chain = chain.without("a").replace("b", named("B")).before("z", named("y")).append(named("x"));
    assert_eq!(chain.to_string(), "first → B → c → d → y → x → z → tail");
    assert!(chain.build().is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_last_end_is_the_end_of_the_chain() {
    let world = World::default();
    let chain = Chain::new().with(Mtu(1500)).end(world.service()).end(Tail);
    let answer = chain.build().unwrap().request(request("a", 1000)).await.unwrap();
    assert_eq!((answer.context.unwrap().mtu, world.seen().len()), (1500, 0));
}
