// SPDX-License-Identifier: Apache-2.0
//! The connections to load balancers and of targets, as declared and as they are in the kernel.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    elements::answers::{self, Answers},
    kernel::{self, Attachment, Peer, PeerId, Reach, Role},
    proxy::{
        log::timestamp,
        mesh::{self, LinkState},
    },
    server::monitor::Connections,
};

/// The load balancers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Mesh {
    /// Whether the registry has listed the load balancers.
    pub(crate) known: bool,
    /// Why its last list could not be read, if it could not.
    pub(crate) error: Option<String>,
    /// Names that the registry lists although they expired long ago; they are not used.
    pub(crate) aside: Vec<String>,
    /// Every load balancer.
    pub(crate) load_balancers: Vec<LoadBalancer>,
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LoadBalancer {
    /// Name of its endpoint; the connection id if it is not wanted any more.
    pub(crate) name: String,
    /// Id of the connection at the proxy.
    pub(crate) connection: String,
    /// `requesting`, `connected`, `closing`, or `left` by an earlier process.
    pub(crate) state: String,
    /// Why the last Request failed, if it did.
    pub(crate) error: Option<String>,
    /// Whether packets reach it: `answers`, `silent` or `unknown`.
    pub(crate) reach: String,
    /// Its links.
    pub(crate) links: Vec<Link>,
    /// Its addresses.
    pub(crate) next_hops: Vec<NextHop>,
    /// The last answer to a Request; absent without one.
    pub(crate) answer: Option<Answer>,
}

/// The last answer of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Answer {
    /// When the connection was first answered.
    pub(crate) since: String,
    /// When it was last answered.
    pub(crate) time: String,
    /// Refreshes since the first answer.
    pub(crate) refreshes: u64,
    /// Times that it was healed since the first answer.
    pub(crate) heals: u64,
    /// When the first token of the path expires.
    pub(crate) expires: Option<String>,
    /// The hops of the path, from the client to the endpoint.
    pub(crate) path: Vec<Hop>,
}

/// A hop of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Hop {
    /// Its name.
    pub(crate) name: String,
    /// Its id of the connection.
    pub(crate) id: String,
    /// When its token expires.
    pub(crate) expires: Option<String>,
}

/// The link of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Link {
    /// Name of the interface.
    pub(crate) name: String,
    /// `missing`, `foreign`, `detached`, `down` or `running`; the last is the one that is desired.
    pub(crate) state: String,
}

/// The address of a load balancer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NextHop {
    /// The address.
    pub(crate) address: IpAddr,
    /// Whether it is in the default route, as read from the kernel.
    pub(crate) installed: bool,
    /// Why it is left out of the route, if it is.
    pub(crate) withheld: Option<String>,
    /// Whether it answers probes, if that is known.
    pub(crate) answers: Option<bool>,
    /// Time from the last solicitation to its answer, rounded up to 10 ms, in which the kernel
    /// keeps it; absent without an answer.
    pub(crate) rtt_ms: Option<u64>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Target {
    /// Id of the connection at the target.
    pub(crate) connection: String,
    /// An earlier process left it, and the target has not refreshed it yet.
    pub(crate) adopted: bool,
    /// Its links.
    pub(crate) links: Vec<Link>,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// When its first Request was answered; absent until the target refreshes a connection of an
    /// earlier process.
    pub(crate) since: Option<String>,
    /// When its last Request was answered.
    pub(crate) time: Option<String>,
    /// Requests that were answered since the first: those that refresh, and those that heal.
    #[serde(default)]
    pub(crate) refreshes: u64,
    /// When the first token of the path expires.
    pub(crate) expires: Option<String>,
    /// The hops of the path, from the target to the proxy; empty until the target refreshes a
    /// connection of an earlier process.
    pub(crate) path: Vec<Hop>,
}

/// The load balancers of the mesh, then those that only the kernel has.
pub(super) fn load_balancers(
    status: &mesh::Status,
    settings: &mesh::Settings,
    kernel: &kernel::Status,
    answers: &Answers,
) -> Vec<LoadBalancer> {
    let wanted =
        status.links.iter().map(|(name, state)| (name.clone(), settings.connection_id(name), Some(state)));
    let mut all: Vec<_> = wanted.collect();
    let known = kernel.peers.keys().filter(|peer| peer.role == Role::LoadBalancer);
    let left = known.map(|peer| peer.id.to_string());
    let left: Vec<_> = left.filter(|left| all.iter().all(|(_, id, _)| id != left)).collect();
    all.extend(left.into_iter().map(|left| (left.clone(), left, None)));
    let all = all.into_iter().map(|(name, id, state)| {
        let last = answers.get(&id);
        let failure = last.as_ref().and_then(|last| last.failure.clone());
        let known = load_balancer(name, id, state, kernel);
        LoadBalancer { error: known.error.or(failure), answer: last.map(answer), ..known }
    });
    all.collect()
}

fn load_balancer(
    name: String,
    connection: String,
    state: Option<&LinkState>,
    kernel: &kernel::Status,
) -> LoadBalancer {
    let id = PeerId::load_balancer(&connection);
    let peer = kernel.peers.get(&id);
    let hops: Vec<_> = peer.map(|peer| peer.next_hops.keys().copied().collect()).unwrap_or_default();
    let (state, error) = match state {
        Some(LinkState::Requesting { error }) => ("requesting", error.clone()),
        Some(LinkState::Connected) => ("connected", None),
        Some(LinkState::Closing) => ("closing", None),
        None => ("left", None),
    };
    let reach = match kernel.reach(&id, &hops) {
        Reach::Answers => "answers",
        Reach::Silent => "silent",
        Reach::Unknown => "unknown",
    };
    LoadBalancer {
        name,
        connection,
        state: state.into(),
        error,
        reach: reach.into(),
        links: peer.map(links).unwrap_or_default(),
        next_hops: peer.map(|peer| next_hops(peer, kernel)).unwrap_or_default(),
        answer: None,
    }
}

fn answer(answer: answers::Answer) -> Answer {
    Answer {
        since: timestamp(answer.since),
        time: timestamp(answer.at),
        refreshes: answer.refreshes,
        heals: answer.heals,
        expires: answer.path.iter().filter_map(|hop| hop.expires).min().map(timestamp),
        path: path(answer.path),
    }
}

fn path(hops: Vec<answers::Hop>) -> Vec<Hop> {
    hops.into_iter()
        .map(|hop| Hop { name: hop.name, id: hop.id, expires: hop.expires.map(timestamp) })
        .collect()
}

/// The targets that are declared, or left by an earlier process.
pub(super) fn targets(kernel: &kernel::Status, connections: &Connections) -> Vec<Target> {
    let all = connections.published();
    let known: BTreeMap<_, _> = all.iter().map(|known| (known.connection.client_id(), known)).collect();
    let targets = kernel.peers.iter().filter(|(id, _)| id.role == Role::Target);
    let targets = targets.map(|(id, peer)| {
        let known = known.get(&*id.id);
        let connection = known.map(|known| &known.connection);
        Target {
            connection: id.id.to_string(),
            adopted: peer.adopted,
            links: links(peer),
            addresses: peer.addresses.iter().copied().collect(),
            since: known.map(|known| timestamp(known.since)),
            time: known.map(|known| timestamp(known.at)),
            refreshes: known.map_or(0, |known| known.again),
            expires: connection.and_then(|known| known.expires()).map(timestamp),
            path: connection.map(|known| path(answers::hops(known))).unwrap_or_default(),
        }
    });
    targets.collect()
}

fn links(peer: &Peer) -> Vec<Link> {
    let links = peer.links.iter();
    links.map(|(name, at)| Link { name: name.to_string(), state: state(*at).into() }).collect()
}

const fn state(attachment: Attachment) -> &'static str {
    match attachment {
        Attachment::Missing => "missing",
        Attachment::Foreign => "foreign",
        Attachment::Detached => "detached",
        Attachment::Down => "down",
        Attachment::Running => "running",
    }
}

/// Adds the time of the last answer of each next hop.
pub(super) fn measured(load_balancers: &mut [LoadBalancer], answers: &BTreeMap<IpAddr, Duration>) {
    for hop in load_balancers.iter_mut().flat_map(|peer| &mut peer.next_hops) {
        hop.rtt_ms = answers.get(&hop.address).map(|took| ceil(*took));
    }
}

/// Milliseconds, rounded up to 10.
fn ceil(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 1).next_multiple_of(10).max(10)
}

fn next_hops(peer: &Peer, kernel: &kernel::Status) -> Vec<NextHop> {
    let hops = peer.next_hops.iter().map(|(address, withheld)| NextHop {
        address: *address,
        installed: kernel.has_next_hop(*address),
        withheld: withheld.as_ref().err().map(ToString::to_string),
        answers: kernel.answers.get(address).copied(),
        rtt_ms: None,
    });
    hops.collect()
}
