// SPDX-License-Identifier: Apache-2.0

//! Connects to a network service, and keeps the connection while the endpoint restarts. In a
//! cluster the identity follows the Workload API, and the address is that of nsmgr.

use std::{error::Error, time::Duration};

use nsm::{
    Client, Endpoint, LinkState,
    elements::{
        mechanism::{self, Names},
        point_to_point::{Groups, PointToPoint},
        send_fd::{self, Netns},
    },
    task::Tasks,
    testing::Authority,
    transport::Address,
};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let tasks = Tasks::default();
    let authority = Authority::new("example.org");
    let address = Address::Unix(folder.path().join("hello.sock"));

    let client = Client::builder("visitor-1", authority.identity("visitor-1"), &address, &tasks)
        .with(mechanism::Client::new(Names::of_pod()))
        .with(send_fd::Client::new(Netns::own()?))
        .build()?;
    let link = client.connect(&"kernel://hello/nsm-1".parse()?);
    let mut state = link.state();

    let addresses: Groups = "172.16.1.0/24".parse()?;
    let endpoint = || {
        Endpoint::builder("hello-1", authority.identity("hello-1"), &tasks)
            .with(PointToPoint::new(addresses.clone()))
            .with(mechanism::Endpoint::new(Names::of_pod()))
            .listen_on(&address)
            .serve()
    };
    let first = endpoint().await?;
    let before = link.up().await?;
    first.stop(LIMIT).await;
    state.wait_for(|state| matches!(state, LinkState::Healing { .. })).await?;
    println!("the endpoint is gone: {:?}", *link.state().borrow());

    let second = endpoint().await?;
    let after = link.up().await?;
    println!("healed: {:?}", after.ip_context().map(|ip| &ip.src_ip_addrs));
    assert_eq!(after.ip_context(), before.ip_context(), "the addresses are recovered from the Request");

    link.close(LIMIT).await?;
    second.stop(LIMIT).await;
    tasks.stop().await;
    Ok(())
}
