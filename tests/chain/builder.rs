// SPDX-License-Identifier: Apache-2.0

//! Tests the promises of the builder.

use std::time::Duration;

use nsm::{
    chain::{Chain, Element, Order, Reason, begin::BeginLayer, builder::WrongOrder},
    task::Tasks,
};
use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer, timeout::TimeoutLayer};

use crate::{
    samples::{Mtu, Refresh},
    world::{World, request},
};

#[test]
fn a_chain_prints_its_rows() {
    let chain = Chain::new()
        .layer("begin", BeginLayer::client(Tasks::default()))
        .with(Mtu(1500))
        .layer("timeout", TimeoutLayer::new(Duration::from_secs(1)));
    assert_eq!(chain.to_string(), "begin → mtu → timeout");
}

struct Connect;
impl Element for Connect {
    const NAME: &'static str = "connect";
    const ORDER: Order = Order { after: &["mtu"], before: &[] };
}

#[tokio::test]
async fn a_wrong_order_is_refused_by_both_names() {
    let refresh = || Refresh(Duration::from_secs(1));
    let begin = || BeginLayer::client(Tasks::default());
    let world = World::default();
    let cases = [
        (Chain::new().with(refresh()).layer("begin", begin()), ("begin", "refresh", "refresh")),
        (Chain::new().with(Connect).with(refresh()), ("refresh", "connect", "refresh")),
        (Chain::new().with(Connect).with(Mtu(1)), ("mtu", "connect", "connect")),
    ];
    for (chain, (first, second, says)) in cases {
        let wrong = chain.build(world.service()).err();
        assert_eq!(wrong, Some(WrongOrder { first, second, says }));
        println!("{}", wrong.unwrap());
    }
    let right = Chain::new().layer("begin", begin()).with(refresh()).with(Connect);
    assert!(right.build(world.service()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn stock_layers_are_rows_and_their_errors_are_ours() {
    let world = World::default();
    world.script([(500, false)]);
    let chain = Chain::new()
        .with(Mtu(1500))
        .layer("timeout", TimeoutLayer::new(Duration::from_millis(20)))
        .with(Mtu(9000))
        .build(world.service())
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
    let chain = chain.build(world.service()).unwrap();
    let (one, two) = tokio::join!(chain.request(request("a", 1000)), chain.request(request("b", 1000)));
    assert!(one.is_ok());
    assert!(matches!(two.unwrap_err().reason(), Reason::Overloaded));
}
