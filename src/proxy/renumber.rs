// SPDX-License-Identifier: Apache-2.0
//! Have targets make their links anew whose addresses IPAM has moved.
//!
//! An IPAM that has lost its store answers another subnet. The bridge gets its address first, and keeps the former one; then
//! each target with moved addresses is told that its connection is down, which makes its client request it again. One after the
//! other, `PACE` apart: a hundred targets move within half a minute, and few at a time are without a link. A client that does
//! nothing of it gets its new addresses with its next refresh.

use std::{collections::BTreeSet, ops::Bound, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    api::{Connection, State},
    elements::ipam::names,
    ipam::{self, BRIDGE},
    transport::monitor::Connections,
};

/// Time between two targets.
const PACE: Duration = Duration::from_millis(150);
/// Time in which all leases are found that IPAM has moved.
const SETTLED: Duration = Duration::from_secs(6);

/// Do so until the leases end.
pub async fn targets(mut leases: watch::Receiver<ipam::Status>, connections: Connections) {
    while leases.wait_for(has_moved).await.is_ok() {
        sleep(SETTLED).await;
        loop {
            let next = next(&leases.borrow_and_update().moved, &connections);
            let Some(id) = next else { break };
            tracing::warn!(id, "IPAM has moved the addresses of this target: it is to connect again");
            connections.down(&id);
            sleep(PACE).await;
        }
        if leases.changed().await.is_err() {
            return;
        }
    }
}

/// Whether IPAM has moved addresses in use, and the bridge has followed.
fn has_moved(status: &ipam::Status) -> bool {
    !status.moved.is_empty() && !status.moved.contains(BRIDGE)
}

/// A target with moved addresses that has not been told.
fn next(moved: &BTreeSet<Arc<str>>, connections: &Connections) -> Option<String> {
    let concerned = |connection: &Connection| {
        let mut names = names(connection.client_id()).into_iter();
        connection.state() != State::Down && names.any(|name| contains(moved, &name))
    };
    connections.ids(concerned).into_iter().next()
}

/// Whether leases under a name have moved, of whichever owner.
fn contains(moved: &BTreeSet<Arc<str>>, name: &str) -> bool {
    let of_another = format!("{name}@");
    let mut after = moved.range::<str, _>((Bound::Included(of_another.as_str()), Bound::Unbounded));
    moved.contains(name) || after.next().is_some_and(|next| next.starts_with(&of_another))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{chain::Tasks, elements::given};

    fn connections(targets: usize) -> Connections {
        let connections = Connections::default();
        for n in 0..targets {
            let mut connection = Connection::named(format!("own-{n}"));
            given::path(&mut connection, 1, &[None, None]);
            connection.path_mut().path_segments[0].id = format!("target-{n}");
            connections.publish(&format!("own-{n}"), *connection);
        }
        connections
    }

    fn down(connections: &Connections) -> usize {
        connections.ids(|connection| connection.state() == State::Down).len()
    }

    #[tokio::test(start_paused = true)]
    async fn targets_with_moved_addresses_move_one_after_the_other() {
        let (tasks, connections) = (Tasks::default(), connections(120));
        let leases = watch::Sender::new(ipam::Status::default());
        tasks.spawn(targets(leases.subscribe(), connections.clone()));
        sleep(PACE).await;
        assert_eq!(down(&connections), 0);
        let names = (0..100).map(|n| format!("target-{n}-src").into());
        leases.send_modify(|status| status.moved = names.chain([BRIDGE.into()]).collect());
        sleep(10 * PACE).await;
        assert_eq!(down(&connections), 0, "the bridge has to move first");
        leases.send_modify(|status| assert!(status.moved.remove(BRIDGE)));
        sleep(SETTLED + 10 * PACE).await;
        assert!((8..=12).contains(&down(&connections)), "{} at once", down(&connections));
        sleep(Duration::from_secs(15)).await;
        assert_eq!(down(&connections), 100, "and the twenty others stay as they are");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_has_its_new_addresses_is_left_alone() {
        let (tasks, connections) = (Tasks::default(), connections(2));
        let leases = watch::Sender::new(ipam::Status::default());
        tasks.spawn(targets(leases.subscribe(), connections.clone()));
        let names = ["target-0-src", "target-1-dst@0123"].map(Into::into);
        leases.send_modify(|status| status.moved = names.into());
        sleep(SETTLED + PACE / 2).await;
        assert_eq!(down(&connections), 1);
        leases.send_modify(|status| status.moved.clear());
        sleep(10 * PACE).await;
        assert_eq!(down(&connections), 1, "the other one has refreshed meanwhile");
        tasks.stop().await;
    }
}
