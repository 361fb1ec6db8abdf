// SPDX-License-Identifier: Apache-2.0

//! Serves a network service that gives each client a link and a pair of addresses, until a client
//! has come and gone. In a cluster the identity follows the Workload API, and the endpoint has
//! `.register_with(&nsmgr)`.

use std::{error::Error, time::Duration};

use nsm::{
    Client, Endpoint,
    elements::{
        mechanism::{self, Names},
        point_to_point::PointToPoint,
        send_fd::{self, Netns},
    },
    task::Tasks,
    testing::Authority,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tasks = Tasks::default();
    let authority = Authority::new("example.org");
    let endpoint = Endpoint::builder("hello-1", authority.identity("hello-1"), &tasks)
        .with(PointToPoint::new("[172.16.1.0/24],[fd00::/64]".parse()?))
        .with(mechanism::Endpoint::new(Names::of_pod()))
        .with(send_fd::Endpoint::new(Netns::own()?))
        .offer("hello")
        .serve()
        .await?;
    println!("listening on {}", endpoint.address());

    let client = Client::builder("visitor-1", authority.identity("visitor-1"), endpoint.address(), &tasks);
    let link = client.build()?.connect(&"kernel://hello/nsm-1".parse()?);
    let ip = link.up().await?.ip_context().cloned().ok_or("no addresses")?;
    println!("client {:?}, endpoint {:?}", ip.src_ip_addrs, ip.dst_ip_addrs);
    assert_eq!(ip.src_ip_addrs, ["172.16.1.1/32", "fd00::1/128"]);
    assert_eq!(endpoint.connections().len(), 1);
    link.close(Duration::from_secs(5)).await?;
    assert!(endpoint.connections().is_empty(), "Close returns everything");

    endpoint.stop(Duration::from_secs(5)).await;
    tasks.stop().await;
    Ok(())
}
