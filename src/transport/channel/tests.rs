// SPDX-License-Identifier: Apache-2.0

use tonic::Code;

use super::*;
use crate::{
    api::pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    transport::testing::{Authority, echo::Endpoint, eventually},
};

fn settings() -> ChannelSettings {
    ChannelSettings { max_backoff: Duration::from_millis(200), ..Default::default() }
}

async fn call(channel: &Channel) -> Result<String, Status> {
    let answer = NetworkServiceClient::new(channel.clone()).request(NetworkServiceRequest::default()).await?;
    Ok(answer.into_inner().labels["caller"].clone())
}

#[tokio::test]
async fn a_channel_says_whether_it_is_up_and_comes_back_with_its_server() {
    let authority = Authority::new("a.test");
    let server = Endpoint::tcp("127.0.0.1:0", authority.identity("ipam")).await;
    let Target::Tcp(address) = server.target.clone() else { panic!("not TCP") };
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    let tasks = Tasks::default();
    let target = format!("localhost:{port}").parse().unwrap();
    let channel = Channel::open(target, authority.identity("proxy"), settings(), &tasks);
    // The first call waits for the first attempt.
    assert_eq!(call(&channel).await.unwrap(), "spiffe://a.test/proxy");
    let link = channel.subscribe();
    assert!(link.borrow().is_up() && link.borrow().error().is_none());

    drop(server);
    let down =
        eventually(|| link.borrow().clone(), |link| link.error().is_some_and(|why| why.contains("refused")))
            .await;
    assert!(!down.is_up());
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("tcp://localhost") && status.message().contains("refused"), "{status}");

    let _server = Endpoint::tcp(&address, authority.identity("ipam")).await;
    eventually(|| link.borrow().is_up(), |up| *up).await;
    call(&channel).await.unwrap();
    tasks.stop().await;
    assert!(tasks.is_empty() && call(&channel).await.is_err());
}

#[tokio::test]
async fn a_channel_without_server_or_identity_says_why() {
    let authority = Authority::new("a.test");
    let tasks = Tasks::default();
    let nowhere =
        Channel::open("host.invalid:1".parse().unwrap(), authority.identity("x"), settings(), &tasks);
    let status = call(&nowhere).await.unwrap_err();
    assert!(status.message().contains("no connection to tcp://host.invalid:1: cannot connect"), "{status}");

    let nobody = Identity::of(watch::channel(Default::default()).1);
    let settings = ChannelSettings { dial_timeout: Duration::from_millis(100), ..settings() };
    let channel = Channel::open("127.0.0.1:1".parse().unwrap(), nobody, settings, &tasks);
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the Workload API"), "{status}");
}
