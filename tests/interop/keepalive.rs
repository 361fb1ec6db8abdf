// SPDX-License-Identifier: Apache-2.0
//! Runs our channel against a Go server that allows a ping every five minutes, as IPAM and NSP do.

use std::{convert::Infallible, time::Duration};

use nsm::{
    task::Tasks,
    transport::{Address, Channel, ChannelSettings, Link, origin},
};
use tokio::{sync::watch, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    node::{Node, START_TIMEOUT, TIMEOUT},
    ours::Pod,
    programs::{Netns, Outcome},
};

/// Interval of our pings at first. The server ends a connection at the fifth.
const OFTEN: Duration = Duration::from_millis(100);

/// Keeps a stream open, so that the server is pinged; opens another when it ends.
async fn watch_for_ever(channel: Channel) -> Infallible {
    let mut client = HealthClient::with_origin(channel, origin());
    loop {
        if let Ok(answer) = client.watch(HealthCheckRequest::default()).await {
            let mut answers = answer.into_inner();
            while let Ok(Some(_)) = answers.message().await {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // a pace, not a wait
    }
}

/// Waits until the pings of a link are that rare.
///
/// # Errors
/// The link went down before.
async fn until_rare(mut link: watch::Receiver<Link>, rare: Duration) -> Outcome<()> {
    let mut was_up = false;
    loop {
        let now = link.borrow_and_update().clone();
        if was_up && !now.is_up() {
            return Err(format!("the link went down: {now:?}"));
        }
        was_up = now.is_up();
        if was_up && now.keepalive() >= rare {
            return Ok(());
        }
        link.changed().await.map_err(|error| error.to_string())?;
    }
}

#[tokio::test]
async fn a_go_server_is_pinged_less_each_time_it_objects() -> Outcome<()> {
    let mut node = Node::new()?;
    let mut server = node.run("service", "nsp", Netns::Shared, &[])?;
    let listening = server.event("listening", START_TIMEOUT).await?;
    let target: Address =
        listening["url"].as_str().unwrap_or_default().parse().map_err(|e| format!("{e}"))?;

    let pod = Pod::new(&mut node)?;
    let tasks = Tasks::default();
    let settings = ChannelSettings { keepalive: OFTEN, ..ChannelSettings::default() };
    let channel = Channel::open(target, pod.identity.clone(), settings, &tasks);
    let rare = timeout(TIMEOUT, until_rare(channel.subscribe(), OFTEN * 4));
    let outcome = tokio::select! {
        never = watch_for_ever(channel) => match never {},
        rare = rare => rare.map_err(|_| "the interval of pings does not grow".to_owned()),
    };
    tasks.stop().await;
    pod.stop().await;
    outcome?
}
