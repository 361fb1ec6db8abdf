// SPDX-License-Identifier: Apache-2.0

//! Texts for everything that is wrong, each fault once, by the part of the service that it
//! concerns.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Degraded, Status};
use crate::{
    api::InterfaceName,
    kernel::{Op, PeerId, Role, Withheld},
};

/// The faults, in texts that do not change while the fault lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Faults of the path over the load balancers, or of everything.
    pub egress: Vec<String>,
    /// Faults that concern only the links of targets.
    pub targets: Vec<String>,
}

impl Status {
    /// All faults. Objects that are only kept for a while after a restart are not faults.
    pub fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        for failure in &self.failures {
            let link = failure.op.as_ref().and_then(|op| match op {
                Op::Attach(link, _) => Some(link),
                _ => None,
            });
            faults.of(link.and_then(|link| self.role_of(link)), failure.to_string());
        }
        for degraded in &self.degraded {
            match degraded {
                Degraded::Withheld(..) | Degraded::Adopted | Degraded::LeftForSuccessor => {}
                Degraded::Sysctl(_) => {} // reported by itself
                Degraded::Failing if !self.failures.is_empty() => {}
                Degraded::Unattached(peer, ..) => faults.of(Some(peer.role), degraded.to_string()),
                Degraded::NotAnnounced(_) => faults.of(Some(Role::Target), degraded.to_string()),
                _ => faults.egress.push(degraded.to_string()),
            }
        }
        faults.egress.extend(self.withheld());
        for link in &self.orphans {
            let text = format!("no connection claims port {link}, which an earlier process left");
            faults.of(self.role_of(link), text);
        }
        if !self.reverted.is_empty() {
            faults.egress.push("others change what is declared, and it is taken back".to_owned());
        }
        faults
    }

    /// Next hops that are left out, grouped by connection and reason.
    fn withheld(&self) -> impl Iterator<Item = String> {
        let mut found = BTreeMap::<(&PeerId, String), Vec<IpAddr>>::new();
        for degraded in &self.degraded {
            if let Degraded::Withheld(peer, hop, why) = degraded
                && !self.is_named_with_its_link(peer, why)
            {
                found.entry((peer, why.to_string())).or_default().push(*hop);
            }
        }
        found.into_iter().map(|((peer, why), hops)| {
            let hops: Vec<_> = hops.iter().map(IpAddr::to_string).collect();
            format!("{peer}: next hop {} is left out: {why}", hops.join(", "))
        })
    }

    fn is_named_with_its_link(&self, peer: &PeerId, why: &Withheld) -> bool {
        let Withheld::Link(link, _) = why else { return false };
        self.degraded.iter().any(|degraded| match degraded {
            Degraded::Unattached(other, named, _) => (other, named) == (peer, link),
            _ => false,
        })
    }

    fn role_of(&self, link: &InterfaceName) -> Option<Role> {
        self.peers.iter().find(|(_, peer)| peer.links.contains_key(link)).map(|(id, _)| id.role)
    }
}

impl Faults {
    fn of(&mut self, role: Option<Role>, text: String) {
        match role {
            Some(Role::Target) => self.targets.push(text),
            Some(Role::LoadBalancer) | None => self.egress.push(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::{Attachment, Failure, Peer, Refusal};

    fn link(name: &str) -> InterfaceName {
        name.parse().unwrap()
    }

    fn withheld(hop: &str, why: Withheld) -> Degraded {
        Degraded::Withheld(PeerId::load_balancer("lb-1"), hop.parse().unwrap(), why)
    }

    #[test]
    fn each_fault_is_named_once_where_it_belongs() {
        let missing = || Withheld::Link(link("lb-1"), Attachment::Missing);
        let late = |peer, name| Degraded::Unattached(peer, link(name), Attachment::Missing);
        let target = Peer { links: [(link("t-1"), Attachment::Detached)].into(), ..Peer::default() };
        let refused = |op| Failure { op, refusal: Refusal::errno(1) };
        let peers = BTreeMap::from([(PeerId::target("t"), target)]);
        let with = |degraded: &[Degraded]| Status {
            degraded: degraded.into(),
            peers: Arc::new(peers.clone()),
            ..Status::default()
        };
        let both = [withheld("172.16.1.2", missing()), withheld("fd00::2", missing())];
        let gone =
            "load balancer lb-1: next hop 172.16.1.2, fd00::2 is left out: its link lb-1 does not exist";
        let attach = Some(Op::Attach(link("t-1"), 7));
        // status, faults of egress, faults of targets
        #[rustfmt::skip]
        let table = [
            (with(&[]), vec![], vec![]),
            (with(&[Degraded::Adopted, Degraded::LeftForSuccessor]), vec![], vec![]),
            (with(&both), vec![gone], vec![]),
            (with(&[&both[..], &[late(PeerId::load_balancer("lb-1"), "lb-1")]].concat()),
                vec!["load balancer lb-1: link lb-1 does not exist"], vec![]),
            (with(&[late(PeerId::target("t"), "t-1")]), vec![], vec!["target t: link t-1 does not exist"]),
            (with(&[Degraded::Failing]), vec!["the kernel does not stay as it is changed"], vec![]),
            (Status { failures: vec![refused(None)], ..with(&[Degraded::Failing]) },
                vec!["the kernel cannot be read: Operation not permitted (os error 1)"], vec![]),
            (Status { failures: vec![refused(attach)], ..with(&[Degraded::Failing]) },
                vec![], vec!["make t-1 a port of the bridge: Operation not permitted (os error 1)"]),
            (Status { orphans: [link("t-1")].into(), ..with(&[]) },
                vec![], vec!["no connection claims port t-1, which an earlier process left"]),
            (Status { reverted: ["add a rule".into()].into(), ..with(&[]) },
                vec!["others change what is declared, and it is taken back"], vec![]),
        ];
        for (status, egress, targets) in table {
            let faults = status.faults();
            assert_eq!(
                (faults.egress, faults.targets),
                (
                    egress.iter().map(ToString::to_string).collect(),
                    targets.iter().map(ToString::to_string).collect()
                )
            );
        }
    }
}
