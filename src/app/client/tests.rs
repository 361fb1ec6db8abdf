// SPDX-License-Identifier: Apache-2.0

use std::path::Path;

use super::*;
use crate::{
    Endpoint,
    elements::{
        mechanism::{self, Names},
        point_to_point::PointToPoint,
    },
    testing::{Authority, eventually, soon},
};

const LIMIT: Duration = Duration::from_secs(5);
const URL: &str = "kernel://web/nsm-1?app=shop";

struct World {
    authority: Authority,
    tasks: Tasks,
    address: Address,
    addresses: PointToPoint,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            authority: Authority::new("a.test"),
            tasks: Tasks::default(),
            address: Address::Unix(folder.path().join("web.sock")),
            addresses: PointToPoint::new("10.0.0.0/24".parse().unwrap()),
            folder,
        }
    }

    async fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::builder("web-1", self.authority.identity("web-1"), &self.tasks);
        let endpoint = endpoint.with(self.addresses.clone()).with(mechanism::Endpoint::new(Names::of_pod()));
        endpoint.listen_on(&self.address).serve().await.unwrap()
    }

    fn client(&self, tasks: &Tasks) -> Client {
        let client = Client::builder("shop-1", self.authority.identity("shop-1"), &self.address, tasks);
        client.with(mechanism::Client::new(Names::of_pod())).request_timeout(LIMIT).build().unwrap()
    }
}

fn url() -> NsUrl {
    URL.parse().unwrap()
}

async fn until(link: &Link, done: impl FnMut(&LinkState) -> bool) -> LinkState {
    let mut state = link.state();
    let found = tokio::time::timeout_at(soon(), state.wait_for(done)).await.unwrap();
    found.unwrap().clone()
}

#[tokio::test]
async fn a_link_comes_up_and_is_closed() {
    let world = World::new();
    let endpoint = world.endpoint().await;
    let client = world.client(&world.tasks);
    let link = client.connect(&url());
    let connection = link.up().await.unwrap();
    assert_eq!((connection.id.as_str(), link.id()), ("shop-1-web-nsm-1", "shop-1-web-nsm-1"));
    assert_eq!(connection.ip_context().unwrap().src_ip_addrs, ["10.0.0.1/32"]);
    assert_eq!((connection.payload.as_str(), connection.labels["app"].as_str()), ("ETHERNET", "shop"));
    let again = client.connect(&"kernel://web".parse().unwrap());
    let third = client.connect(&"kernel://web".parse().unwrap());
    assert_eq!((again.id(), third.id()), ("shop-1-web", "shop-1-web-2"));
    again.up().await.unwrap();
    third.up().await.unwrap();
    assert_eq!((endpoint.connections().len(), world.addresses.pairs()), (3, 3));

    let state = link.state();
    link.close(LIMIT).await.unwrap();
    assert_eq!(*state.borrow(), LinkState::Closed);
    drop((again, third));
    eventually(|| (endpoint.connections().len(), world.addresses.pairs()), |left| *left == (0, 0)).await;
    eventually(|| client.ids().len(), |ids| *ids == 0).await;
    endpoint.stop(LIMIT).await;
    world.tasks.stop().await;
}

#[tokio::test]
async fn a_link_waits_for_its_peer_with_the_reason() {
    let world = World::new();
    let client = world.client(&world.tasks);
    let link = client.connect(&url());
    let LinkState::Requesting { error: Some(error) } =
        until(&link, |state: &LinkState| matches!(state, LinkState::Requesting { error: Some(_) })).await
    else {
        unreachable!()
    };
    assert!(error.contains("web.sock"), "{error}");
    let endpoint = world.endpoint().await;
    until(&link, |state| matches!(state, LinkState::Up(_))).await;
    link.close(LIMIT).await.unwrap();
    endpoint.stop(LIMIT).await;
    world.tasks.stop().await;
}

#[tokio::test]
async fn a_link_of_an_earlier_process_is_continued() {
    let world = World::new();
    let endpoint = world.endpoint().await;
    let earlier = Tasks::default();
    let link = world.client(&earlier).connect(&url());
    let before = link.up().await.unwrap();
    earlier.stop().await; // a killed process closes nothing
    assert!(link.close(LIMIT).await.is_ok(), "nothing is left to close");
    assert_eq!(endpoint.connections().len(), 1);

    let link = world.client(&world.tasks).connect(&url());
    let after = link.up().await.unwrap();
    let next = |connection: &crate::api::Connection| connection.segments()[1].id.clone();
    assert_eq!((next(&after), &after.context), (next(&before), &before.context));
    assert_eq!((endpoint.connections().len(), world.addresses.pairs()), (1, 1));
    link.close(LIMIT).await.unwrap();
    endpoint.stop(LIMIT).await;
    world.tasks.stop().await;
}

#[tokio::test]
async fn a_link_whose_peer_restarts_is_healed() {
    let world = World::new();
    let endpoint = world.endpoint().await;
    let link = world.client(&world.tasks).connect(&url());
    link.up().await.unwrap();
    endpoint.stop(LIMIT).await;
    until(&link, |state: &LinkState| matches!(state, LinkState::Healing { error: Some(_) })).await;
    let endpoint = world.endpoint().await;
    until(&link, |state| matches!(state, LinkState::Up(_))).await;
    assert_eq!(endpoint.connections().len(), 1);
    link.close(LIMIT).await.unwrap();
    endpoint.stop(LIMIT).await;
    world.tasks.stop().await;
}

#[tokio::test]
async fn a_close_that_is_not_answered_ends_at_its_deadline() {
    let world = World::new();
    let endpoint = world.endpoint().await;
    let link = world.client(&world.tasks).connect(&url());
    link.up().await.unwrap();
    endpoint.stop(LIMIT).await;
    let _mute = mute(world.folder.path());
    let error = link.close(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error.reason(), crate::chain::Reason::Deadline), "{error}");
    world.tasks.stop().await;
}

/// Accepts at the endpoint's socket, and never answers.
fn mute(folder: &Path) -> std::os::unix::net::UnixListener {
    std::os::unix::net::UnixListener::bind(folder.join("web.sock")).unwrap()
}
