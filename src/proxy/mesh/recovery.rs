// SPDX-License-Identifier: Apache-2.0
//! Finds the connection of an earlier process of this pod, so that it is continued and no second
//! one is made.
//!
//! 1. The manager is queried before the first Request of a link. It has two seconds to answer, and
//!    is queried three times if it does not. No Request is made before it can be reached: it would
//!    make a second connection beside the existing one.
//! 2. A connection counts if the manager publishes it: its path's index is 1, and segment 0 has our
//!    connection's id.
//! 3. It must be of mechanism KERNEL, or of none, as in the middle of a reselect.
//! 4. Of several, for instance when an earlier process had left one that has not timed out yet, the
//!    newest counts: the one whose token of this proxy expires last.
//! 5. It is continued from our place in the path: index 0 and our id.
//!
//! A connection whose load balancer answers over its link is requested as it is, which changes
//! nothing at either end. Otherwise it is reselected (state `RESELECT_REQUESTED`, no mechanism,
//! same endpoint), as Meridio does. Traffic is taken off the link first.

use std::{net::IpAddr, time::Duration};

use tokio::time::timeout;

use super::links;
use crate::{
    api::{
        Connection, MechanismKind, State, parse_prefixes,
        pb::connection::{ConnectionEvent, MonitorScopeSelector, PathSegment},
    },
    chain::{bounds, causes},
    elements::heal::Verdict,
    kernel::{Kernel, PeerId, Reach},
    server::monitor::{NoPicture, picture},
    transport::{DialError, Dialer},
};

/// Time for the manager to list its connections.
const PICTURE: Duration = Duration::from_secs(2);
/// Number of queries.
const TIMES: usize = 3;
/// Time for the probes to determine whether a load balancer answers.
const PROBES: Duration = Duration::from_secs(1);
/// Time for the kernel to take traffic off a link.
const WITHDRAWAL: Duration = Duration::from_secs(2);

/// The source of an earlier process's connections.
pub trait Recovery: Clone + Send + Sync + 'static {
    /// The connection with this id, ready to be continued. `None` if there is none or the manager
    /// does not answer.
    ///
    /// # Errors
    /// The manager cannot be reached. The caller should try again.
    fn find(&self, id: &str) -> impl Future<Output = Result<Option<Box<Connection>>, DialError>> + Send;

    /// Whether the link of a connection can continue unchanged, at both ends.
    fn verdict(&self, connection: &Connection) -> impl Future<Output = Verdict> + Send;

    /// Takes traffic off the link of a connection that is about to be replaced.
    fn withdraw(&self, connection: &Connection) -> impl Future<Output = ()> + Send;
}

/// Recovery from nsmgr, with the next hops in the kernel.
#[derive(Clone)]
pub struct Nsmgr {
    dialer: Dialer,
    kernel: Kernel,
}

impl Nsmgr {
    /// Queries the manager at the other end of `dialer`.
    pub fn new(dialer: Dialer, kernel: Kernel) -> Self {
        Self { dialer, kernel }
    }
}

impl Recovery for Nsmgr {
    async fn find(&self, id: &str) -> Result<Option<Box<Connection>>, DialError> {
        let segment = PathSegment { id: id.to_owned(), ..PathSegment::default() };
        let selector =
            MonitorScopeSelector { path_segments: vec![segment], ..MonitorScopeSelector::default() };
        for _ in 0..TIMES {
            match picture(&self.dialer, selector.clone(), PICTURE).await {
                Ok(event) => return Ok(continued(event, id)),
                Err(NoPicture::Dial(error)) => return Err(error),
                Err(error) => tracing::info!(id, error = causes(&error), "the manager shows no connections"),
            }
        }
        Ok(None)
    }

    /// The verdict of the probes, which have a second to reach it. It stays unknown if addresses
    /// are not announced: the load balancer may have the former MAC addresses of targets whose
    /// links were made again since, and only a new link makes it resolve them again.
    async fn verdict(&self, connection: &Connection) -> Verdict {
        let peer = PeerId::load_balancer(connection.client_id());
        let addresses: Vec<IpAddr> = next_hops(connection).collect();
        let mut status = self.kernel.status();
        let found = status.wait_for(|status| status.reach(&peer, &addresses) != Reach::Unknown);
        match timeout(PROBES, found).await {
            Ok(Ok(status)) if status.announces() => links::verdict(status.reach(&peer, &addresses)),
            _ => Verdict::Unknown,
        }
    }

    async fn withdraw(&self, connection: &Connection) {
        self.kernel.withdraw(next_hops(connection));
        if timeout(WITHDRAWAL, self.kernel.settled()).await.is_err() {
            tracing::warn!(id = connection.id, "the kernel has not taken traffic off the old link in time");
        }
    }
}

/// The load balancer's addresses.
pub(super) fn next_hops(connection: &Connection) -> impl Iterator<Item = IpAddr> {
    let texts = connection.ip_context().map(|context| context.dst_ip_addrs.as_slice()).unwrap_or_default();
    parse_prefixes(texts).into_iter().map(|net| net.addr())
}

/// Rules 2 to 5.
pub fn continued(event: ConnectionEvent, id: &str) -> Option<Box<Connection>> {
    let kernel = |connection: &Connection| {
        connection.mechanism.as_ref().is_none_or(|mechanism| mechanism.kind() == Some(MechanismKind::Kernel))
    };
    let ours = |connection: &Connection| {
        connection.index() == 1 && connection.segments().len() > 1 && connection.client_id() == id
    };
    let candidates = event.connections.into_values().filter(|connection| {
        ours(connection) && kernel(connection) && bounds::check(connection, &[]).is_ok()
    });
    let mut found = candidates
        .max_by_key(|connection| connection.segments().first().and_then(PathSegment::expires_at))?;
    id.clone_into(&mut found.id);
    found.path_mut().index = 0;
    Some(Box::new(found))
}

/// The Request of a recovered connection whose link has to be made again.
pub(super) fn reselect(mut connection: Box<Connection>, endpoint: &str) -> Box<Connection> {
    connection.mechanism = None;
    connection.set_state(State::ReselectRequested);
    endpoint.clone_into(&mut connection.network_service_endpoint_name);
    connection
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        api::Mechanism,
        kernel::{Memory, Settings, liveness},
        proxy::in_memory::left_by_an_earlier_process,
        task::Tasks,
        testing::Authority,
        transport::Target,
    };

    /// The verdict on a connection whose link and next hop an earlier process left in the kernel.
    async fn verdict(prepare: impl FnOnce(&Memory)) -> Verdict {
        let linux = left_by_an_earlier_process().await;
        prepare(&linux);
        let settings = Settings {
            announce: true,
            liveness: Some(liveness::Settings::default()),
            ..Settings::of("trench", "conduit", "node")
        };
        let tasks = Tasks::default();
        let kernel = Kernel::start(settings, linux, &tasks);
        let dialer = Dialer {
            target: Target::Unix("/nonexistent".into()),
            identity: Authority::new("a.test").identity("proxy"),
            dial_timeout: Duration::from_secs(1),
            token_lifetime: Duration::from_secs(600),
        };
        let recovery = Nsmgr::new(dialer, kernel);
        let mut connection = *Connection::named("lb-1");
        connection.ip_context_mut().dst_ip_addrs = vec!["172.16.1.2/24".into()];
        let verdict = recovery.verdict(&connection).await;
        tasks.stop().await;
        verdict
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_continued_only_if_its_load_balancer_answers() {
        let mute = Memory::forbid_announcements;
        assert_eq!(verdict(|_| {}).await, Verdict::Alive);
        assert_eq!(
            verdict(|linux| linux.set_silent("172.16.1.2".parse().unwrap(), true)).await,
            Verdict::Dead
        );
        assert_eq!(verdict(|linux| linux.remove_link("nsm-1")).await, Verdict::Unknown);
        assert_eq!(verdict(mute).await, Verdict::Unknown, "nothing is announced");
    }

    fn at(index: u32, ids: &[&str], mechanism: Option<&str>) -> Connection {
        let mut connection = *Connection::named(ids.get(index as usize).copied().unwrap_or_default());
        connection.path_mut().index = index;
        connection.path_mut().path_segments =
            ids.iter().map(|id| PathSegment { id: (*id).to_owned(), ..PathSegment::default() }).collect();
        connection.mechanism =
            mechanism.map(|kind| Mechanism { r#type: kind.into(), ..Mechanism::default() });
        connection
    }

    fn event(connections: Vec<Connection>) -> ConnectionEvent {
        let keyed = connections.into_iter().enumerate().map(|(n, connection)| (n.to_string(), connection));
        ConnectionEvent { connections: keyed.collect::<HashMap<_, _>>(), ..ConnectionEvent::default() }
    }

    #[test]
    fn b11_only_our_connection_as_the_manager_has_it_is_continued() {
        let table = [
            ("as published", at(1, &["a", "m", "f", "e"], Some("KERNEL")), true),
            ("l25 without a mechanism", at(1, &["a", "m"], None), true),
            ("another mechanism", at(1, &["a", "m"], Some("MEMIF")), false),
            ("another connection", at(1, &["b", "m"], Some("KERNEL")), false),
            ("published by another hop", at(2, &["a", "m", "f"], Some("KERNEL")), false),
            ("no path", *Connection::named("a"), false),
            ("index beyond the path", at(1, &["a"], Some("KERNEL")), false),
            ("a path without end", at(1, &["a"; 1000], Some("KERNEL")), false),
        ];
        for (rule, connection, found) in table {
            let segments = connection.segments().len();
            let got = continued(event(vec![connection]), "a");
            assert_eq!(got.is_some(), found, "{rule}");
            if let Some(got) = got {
                assert_eq!(
                    (got.id.as_str(), got.index(), got.segments().len()),
                    ("a", 0, segments),
                    "{rule}"
                );
            }
        }
        let both = event(vec![at(1, &["b", "m"], Some("KERNEL")), at(1, &["a", "m"], Some("KERNEL"))]);
        assert!(continued(both, "a").is_some());
        assert_eq!(continued(event(vec![]), "a"), None);
    }

    #[test]
    fn of_several_connections_the_one_that_expires_last_counts() {
        let expiring = |next: &str, seconds| {
            let mut connection = at(1, &["a", next, "f", "e"], Some("KERNEL"));
            let expires = prost_types::Timestamp { seconds, nanos: 0 };
            connection.path_mut().path_segments[0].expires = Some(expires);
            connection
        };
        let unsaid = at(1, &["a", "unsaid"], Some("KERNEL"));
        for _ in 0..20 {
            // a map's order differs from one map to the next
            let all =
                vec![expiring("older", 100), expiring("newest", 300), expiring("old", 200), unsaid.clone()];
            let found = continued(event(all), "a").unwrap();
            assert_eq!(found.segments()[1].id, "newest");
        }
    }

    #[test]
    fn b11_a_reselect_keeps_endpoint_and_path() {
        let mut old = at(0, &["a", "m", "f", "e"], Some("KERNEL"));
        old.ip_context_mut().dst_ip_addrs = vec!["172.16.1.2/24".into(), "fd00::2/64".into(), "junk".into()];
        let expected = ["172.16.1.2", "fd00::2"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(next_hops(&old).collect::<Vec<_>>(), expected);
        let new = reselect(Box::new(old.clone()), "lb-1");
        assert_eq!(new.mechanism, None);
        assert_eq!(new.state(), State::ReselectRequested);
        assert_eq!(new.network_service_endpoint_name, "lb-1");
        assert_eq!((&new.path, &new.context), (&old.path, &old.context));
    }
}
