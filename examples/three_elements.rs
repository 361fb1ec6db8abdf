// SPDX-License-Identifier: Apache-2.0

//! Builds a chain of three elements and a stock tower layer, and prints the effect of each on a
//! Request.

use std::time::Duration;

use nsm::{
    api::{Connection, Mechanism, MechanismKind},
    chain::{Chain, Request, Result, begin::BeginLayer, metadata::MetadataLayer},
    elements::{
        mechanism::{self, Names},
        mtu::Mtu,
        update_path::UpdatePath,
    },
    task::Tasks,
};
use tower::timeout::TimeoutLayer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let names = Names::new(|name| name.as_str() == "eth0"); // the name of a link that no connection made
    let tasks = Tasks::default(); // owns the lanes of all connections
    let chain = Chain::new()
        .with(UpdatePath::new("endpoint-1"))
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .layer("deadline", TimeoutLayer::new(Duration::from_secs(5)))
        .with(mechanism::Endpoint::new(names))
        .with(Mtu(1500));
    println!("{chain}");
    assert_eq!(chain.to_string(), "update_path → begin → metadata → deadline → mechanism → mtu");

    // Without another end, the answer is the connection as the rows have made it.
    let chain = chain.build()?;

    let mut connection = Connection::named("connection-1");
    connection.network_service = "load-balancer.trench".into();
    let memif = Mechanism { r#type: "MEMIF".into(), ..Mechanism::default() };
    let kernel = Mechanism::local(MechanismKind::Kernel);
    let request = Request { preferences: vec![memif, kernel], ..Request::new(connection) };
    let answer = chain.request(request).await?;

    let agreed = answer.mechanism.as_ref().ok_or("no mechanism")?;
    let name = agreed.interface().ok_or("no interface name")?;
    println!("{} over {} named {name}", answer.segments()[0].name, agreed.r#type);
    assert_eq!((answer.segments()[0].name.as_str(), agreed.r#type.as_str()), ("endpoint-1", "KERNEL"));
    assert!(name.as_str().starts_with("load-balan-"));
    assert_eq!(answer.context.map(|context| context.mtu), Some(1500));

    let refused = chain.request(Request::new(Connection::named("connection-2"))).await;
    println!("{}", refused.as_ref().err().ok_or("a Request without a mechanism was accepted")?);
    tasks.stop().await;
    Ok(())
}
