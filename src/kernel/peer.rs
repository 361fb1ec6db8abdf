// SPDX-License-Identifier: Apache-2.0

//! The records of connections: one for each load balancer and each target.
//!
//! A record is declared by the elements, or adopted from the objects of an earlier process. Ports,
//! next hops, the neighbours to probe and [`Status`](super::Status) are derived from the records
//! alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use super::{Link, LinkKind, Observed, Ours};
use crate::api::InterfaceName;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A load balancer: the proxy is its client, and its addresses are next hops.
    LoadBalancer,
    /// A target: the proxy is its endpoint.
    Target,
}

impl Role {
    /// The prefix of the alias that forwarders give to such a link in this network namespace.
    const fn alias(self) -> &'static str {
        match self {
            Role::LoadBalancer => "server-",
            Role::Target => "client-",
        }
    }
}

/// The name of a connection: its other end, and its id at the client (segment 0 of the path), as in
/// the aliases of links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    /// The other end.
    pub role: Role,
    /// The id at the client.
    pub id: Arc<str>,
}

impl PeerId {
    /// The connection to a load balancer.
    pub fn load_balancer(id: &str) -> Self {
        Self { role: Role::LoadBalancer, id: id.into() }
    }

    /// The connection of a target.
    pub fn target(id: &str) -> Self {
        Self { role: Role::Target, id: id.into() }
    }

    /// The connection for which a forwarder made a link; `None` if the alias is not a forwarder's.
    pub fn of_alias(alias: &str) -> Option<Self> {
        [Role::LoadBalancer, Role::Target].into_iter().find_map(|role| {
            let id = alias.strip_prefix(role.alias()).filter(|id| !id.is_empty())?;
            Some(Self { role, id: id.into() })
        })
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::LoadBalancer => write!(f, "load balancer {}", self.id),
            Role::Target => write!(f, "target {}", self.id),
        }
    }
}

/// The addresses of a connection at its two ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Those of the proxy's end.
    pub near: Arc<[IpAddr]>,
    /// Those of the other end.
    pub far: Arc<[IpAddr]>,
}

/// The state of a connection's link in the kernel. The last is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attachment {
    /// It does not exist.
    Missing,
    /// It is the bridge itself or an interface of the pod's own traffic, and is never made a port.
    Foreign,
    /// It exists and is not a port of the bridge.
    Detached,
    /// It is a port, and cannot carry frames: it or its far end is down.
    Down,
    /// It is a port and carries frames.
    Running,
}

impl Attachment {
    /// The state of a link in a dump.
    pub(super) fn of(name: &InterfaceName, observed: &Observed, ours: &Ours) -> Self {
        let bridge = observed.bridge(ours).map(|bridge| bridge.index);
        Self::given(bridge, name, observed.link(name), ours)
    }

    /// The same, given the bridge's index and the link.
    fn given(bridge: Option<u32>, name: &InterfaceName, link: Option<&Link>, ours: &Ours) -> Self {
        match link {
            _ if *name == ours.bridge => Self::Foreign,
            None => Self::Missing,
            Some(link) if link.kind == LinkKind::Primary => Self::Foreign,
            Some(link) if bridge.is_none() || link.controller != bridge => Self::Detached,
            Some(link) if link.running => Self::Running,
            Some(_) => Self::Down,
        }
    }

    /// Whether it is a port.
    pub const fn is_port(self) -> bool {
        matches!(self, Self::Down | Self::Running)
    }
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "does not exist",
            Self::Foreign => "is a way out of the pod or the bridge itself, not made a port",
            Self::Detached => "is not a port of the bridge",
            Self::Down => "is down",
            Self::Running => "is up",
        })
    }
}

/// One connection, as it was declared or adopted, with its state in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// An earlier process left it, and no element has declared it.
    pub adopted: bool,
    /// Its links. There are two while one replaces the other.
    pub links: BTreeMap<InterfaceName, Attachment>,
    /// Indices of its links that are ports and carry frames. Another index means another link.
    pub running: BTreeSet<u32>,
    /// Addresses of its other end, as declared.
    pub addresses: BTreeSet<IpAddr>,
    /// The addresses of a load balancer, and whether each is a next hop.
    pub next_hops: BTreeMap<IpAddr, Result<(), Withheld>>,
}

/// Whether packets reach the other end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// None of its addresses has been probed yet.
    #[default]
    Unknown,
    /// Its link carries frames, and one of its addresses answers.
    Answers,
    /// It has no link that carries frames, or none of its addresses answers.
    Silent,
}

impl Peer {
    /// Adds a link in its state in a dump, given the bridge's index.
    pub(super) fn add_link(
        &mut self,
        name: &InterfaceName,
        observed: &Observed,
        ours: &Ours,
        bridge: Option<u32>,
    ) {
        let link = observed.link(name);
        let attachment = Attachment::given(bridge, name, link, ours);
        let running = link.filter(|_| attachment == Attachment::Running);
        self.running.extend(running.map(|link| link.index));
        self.links.insert(name.clone(), attachment);
    }

    /// The reason why no packet can be sent to its other end; `None` if one of its links carries
    /// frames. The link of an adopted connection may be unknown; it is then assumed to carry
    /// frames.
    pub(super) fn unlinked(&self) -> Option<Withheld> {
        match self.links.iter().max_by_key(|(_, attachment)| **attachment) {
            Some((_, Attachment::Running)) => None,
            Some((link, attachment)) => Some(Withheld::Link(link.clone(), *attachment)),
            None if self.adopted => None,
            None => Some(Withheld::NoLink),
        }
    }
}

/// The reason why a next hop is left out of the default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The connection has no link.
    NoLink,
    /// Its link is not a port that carries frames.
    Link(InterfaceName, Attachment),
    /// It is in no subnet of an address of the bridge.
    OffLink,
    /// It is an address of the bridge.
    Own,
    /// It is the network or the broadcast address of a subnet of the bridge.
    NoHost,
    /// The kernel refuses a route with it.
    Refused(String),
    /// It does not answer.
    Silent,
    /// It may not forward, and others can be used.
    Doubted,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink => f.write_str("its connection has no link"),
            Self::Link(link, attachment) => write!(f, "its link {link} {attachment}"),
            Self::OffLink => f.write_str("it is in no subnet of the bridge"),
            Self::Own => f.write_str("it is an address of the bridge"),
            Self::NoHost => f.write_str("it is the network or broadcast address of the bridge's subnet"),
            Self::Refused(refusal) => write!(f, "the kernel refuses it: {refusal}"),
            Self::Silent => f.write_str("it does not answer"),
            Self::Doubted => f.write_str("its connection is reported to be down, and there are others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarders_alias_names_the_connection() {
        let table = [
            ("server-px-lb-1", Some(PeerId::load_balancer("px-lb-1"))),
            ("client-target-1-proxy-0", Some(PeerId::target("target-1-proxy-0"))),
            ("server-", None),
            ("uplink", None),
            ("", None),
        ];
        for (alias, expected) in table {
            assert_eq!(PeerId::of_alias(alias), expected, "{alias}");
        }
    }

    #[test]
    fn the_best_link_of_a_connection_decides() {
        let link = |name: &str| name.parse::<InterfaceName>().unwrap();
        let peer = |adopted, links: &[(&str, Attachment)]| Peer {
            adopted,
            links: links.iter().map(|(name, attachment)| (link(name), *attachment)).collect(),
            ..Peer::default()
        };
        use Attachment::{Detached, Down, Missing, Running};
        let down = Some(Withheld::Link(link("b"), Down));
        assert_eq!(peer(false, &[("a", Running), ("b", Missing)]).unlinked(), None);
        assert_eq!(peer(false, &[("a", Detached), ("b", Down)]).unlinked(), down);
        assert_eq!(peer(true, &[("b", Down)]).unlinked(), down);
        assert_eq!(peer(true, &[]).unlinked(), None, "its link is not known");
        assert_eq!(peer(false, &[]).unlinked(), Some(Withheld::NoLink));
    }
}
