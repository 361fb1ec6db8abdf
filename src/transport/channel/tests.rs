// SPDX-License-Identifier: Apache-2.0

use tonic::Code;

use super::*;
use crate::{
    api::pb::networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
    testing::{
        Authority,
        abrupt::{Abrupt, End},
        echo::Endpoint,
        eventually, soon,
    },
};

fn settings() -> ChannelSettings {
    ChannelSettings { max_backoff: Duration::from_millis(200), ..Default::default() }
}

async fn call(channel: &Channel) -> Result<String, Status> {
    let answer = NetworkServiceClient::new(channel.clone()).request(NetworkServiceRequest::default()).await?;
    Ok(answer.into_inner().labels["caller"].clone())
}

#[tokio::test]
async fn a_channel_reports_its_state_and_returns_with_its_server() {
    let authority = Authority::new("a.test");
    let server = Endpoint::tcp("127.0.0.1:0", authority.identity("ipam")).await;
    let Address::Tcp(address) = server.address.clone() else { panic!("not TCP") };
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    let tasks = Tasks::default();
    let named = format!("localhost:{port}").parse().unwrap();
    let channel = Channel::open(named, authority.identity("proxy"), settings(), &tasks);
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
async fn a_server_that_comes_late_soon_counts_as_up() {
    let authority = Authority::new("a.test");
    let tasks = Tasks::default();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let settings = ChannelSettings { max_backoff: Duration::from_secs(600), ..settings() };
    let channel = Channel::open(address.parse().unwrap(), authority.identity("proxy"), settings, &tasks);
    let mut link = channel.subscribe();
    until(&mut link, |link| link.error().is_some()).await;
    let _server = Endpoint::tcp(&address, authority.identity("nsp")).await;
    until(&mut link, Link::is_up).await;
    assert!(link.borrow().error().is_none());
    tasks.stop().await;
}

#[tokio::test]
async fn a_channel_without_server_or_identity_reports_the_cause() {
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

/// Follows a link until `done`; returns whether it was up, for each state on the way.
async fn until(link: &mut watch::Receiver<Link>, done: impl Fn(&Link) -> bool) -> Vec<bool> {
    let mut states = Vec::new();
    let follow = async {
        loop {
            let now = link.borrow_and_update().clone();
            states.push(now.is_up());
            if done(&now) {
                return;
            }
            // A server's count of calls is not a change of the link.
            let _unchanged = tokio::time::timeout(Duration::from_millis(10), link.changed()).await;
        }
    };
    tokio::time::timeout_at(soon(), follow).await.expect("the link gets there");
    states
}

#[tokio::test]
async fn the_interval_of_pings_doubles_as_often_as_it_is_refused() {
    let authority = Authority::new("a.test");
    let tasks = Tasks::default();
    let server = Abrupt::start(authority.identity("ipam"), End::TooManyPings, Duration::ZERO, 3).await;
    let channel = Channel::open(server.address.clone(), authority.identity("proxy"), settings(), &tasks);
    let mut link = channel.subscribe();
    until(&mut link, Link::is_up).await;
    let states = until(&mut link, |link: &Link| server.connections() == 4 && link.wire().is_some()).await;
    assert!(states.iter().all(|up| *up), "it is up all the time: {states:?}");
    assert_eq!(link.borrow().keepalive(), settings().keepalive * 8);
    tasks.stop().await;
}

#[tokio::test]
async fn a_server_that_refuses_all_pings_is_dialled_with_pauses() {
    let authority = Authority::new("a.test");
    let tasks = Tasks::default();
    let server =
        Abrupt::start(authority.identity("ipam"), End::TooManyPings, Duration::ZERO, usize::MAX).await;
    let settings = ChannelSettings { keepalive: Duration::from_secs(1800), ..settings() };
    let channel = Channel::open(server.address.clone(), authority.identity("proxy"), settings, &tasks);
    let mut link = channel.subscribe();
    until(&mut link, |link| link.error().is_some_and(|why| why.contains("TooManyPings"))).await;
    assert_eq!(link.borrow().keepalive(), Duration::from_secs(3600));
    tasks.stop().await;
}

#[tokio::test]
async fn the_link_stays_up_while_a_connection_that_held_is_re_made() {
    let authority = Authority::new("a.test");
    let tasks = Tasks::default();
    let settings = ChannelSettings { max_backoff: Duration::from_millis(20), ..settings() };
    let server = Abrupt::start(authority.identity("ipam"), End::Close, Duration::from_millis(200), 3).await;
    let channel = Channel::open(server.address.clone(), authority.identity("proxy"), settings, &tasks);
    let mut link = channel.subscribe();
    until(&mut link, Link::is_up).await;
    let states = until(&mut link, |link: &Link| server.connections() == 4 && link.wire().is_some()).await;
    assert!(states.len() > 3 && states.iter().all(|up| *up), "{states:?}");
    tasks.stop().await;
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_dialled_less_and_less_often() {
    let authority = Authority::new("a.test");
    let tasks = Tasks::default();
    let settings = ChannelSettings { max_backoff: Duration::from_secs(2), ..settings() };
    let server = Abrupt::start(authority.identity("ipam"), End::Close, Duration::ZERO, usize::MAX).await;
    let channel = Channel::open(server.address.clone(), authority.identity("proxy"), settings, &tasks);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let attempts = server.connections();
    assert!(
        (2..=8).contains(&attempts),
        "{attempts} attempts in 2 s, instead of at 0, 0.1, 0.3, 0.7 and 1.5 s"
    );
    let link = channel.subscribe().borrow().clone();
    assert!(!link.is_up() && link.error().unwrap().contains("does not hold"), "{link:?}");
    tasks.stop().await;
}
