// SPDX-License-Identifier: Apache-2.0

//! Checks of the peers: their names, their sockets, mTLS with them.
//!
//! SPIRE, nsmgr, IPAM and NSP report no version, neither by a call nor by a header, so the check
//! prints the SPIFFE id and the expiry of a peer's certificate.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::{Finding, State};
use crate::{
    chain::causes,
    proxy::{config::Config, log::timestamp},
    task::Tasks,
    transport::{Address, Identity, Svid, Wire, address::Socket},
};

/// Time for each peer.
const TIME: Duration = Duration::from_secs(2);

/// A peer that the proxy calls.
struct Peer<'a> {
    name: &'a str,
    target: Address,
    breaks: &'a str,
    repair: &'a str,
}

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let (spire, svid) = workload_api(&config.spiffe_endpoint_socket).await;
    let peers = [
        Peer {
            name: "nsmgr",
            target: config.connect_to.clone(),
            breaks: "no target finds the proxy, and the proxy no load balancer",
            repair: "run nsmgr on this node, and mount /var/lib/networkservicemesh",
        },
        Peer {
            name: "IPAM",
            target: config.ipam_service.clone(),
            breaks: "new connections have no addresses",
            repair: "see the pod and the service of IPAM, and NSM_IPAM_SERVICE",
        },
        Peer {
            name: "NSP",
            target: config.nsp_service.clone(),
            breaks: "VIPs do not change, and a new proxy has none",
            repair: "see the pod and the service of NSP, and NSM_NSP_SERVICE_NAME, NSM_NAMESPACE, NSM_TRENCH",
        },
    ];
    let reached = futures::future::join_all(peers.iter().map(|peer| reach(peer, svid.clone()))).await;
    spire.into_iter().chain(reached).collect()
}

/// Asks the Workload API for an SVID of this process, with which the other peers are called.
async fn workload_api(socket: &str) -> (Option<Finding>, Option<Arc<Svid>>) {
    let Ok(target) = socket.parse() else { return (None, None) };
    let spire = Peer {
        name: "SPIRE",
        target,
        breaks: "the proxy has no identity: it waits, and is not ready",
        repair: "run the SPIRE agent on this node, and mount the folder of its socket",
    };
    let connected = reach(&spire, None).await;
    if connected.state != State::Ok {
        return (Some(connected), None);
    }
    let tasks = Tasks::default();
    let svid = Identity::follow(socket, &tasks).ready(Instant::now() + TIME).await;
    tasks.stop().await;
    let finding = match &svid {
        Ok(svid) => Finding::ok(spire.name, format!("{socket} issues {}", svid.id())),
        Err(error) => {
            let repair =
                "register this pod with the SPIRE server, whose entries name the label spiffe.io/spiffe-id";
            Finding::failed(spire.name, format!("{socket}: {}", causes(error)), spire.breaks, repair)
        }
    };
    (Some(finding), svid.ok())
}

/// Resolves and connects; with an SVID, by mTLS.
async fn reach(peer: &Peer<'_>, svid: Option<Arc<Svid>>) -> Finding {
    let Peer { name, target, breaks, repair } = peer;
    if let Address::Tcp(address) = target {
        let resolved = timeout(TIME, lookup_host(address.as_str())).await.unwrap_or_else(|_| Err(late()));
        if let Err(error) = resolved {
            let found = format!("{target} cannot be resolved: {error}");
            return Finding::failed(name, found, *breaks, format!("see the DNS of the cluster; {repair}"));
        }
    }
    if let Err(error) = timeout(TIME, Socket::connect(target)).await.unwrap_or_else(|_| Err(late())) {
        return Finding::failed(name, format!("{target}: {error}"), *breaks, *repair);
    }
    let Some(svid) = svid else { return Finding::ok(name, format!("{target} accepts connections")) };
    match Wire::dial(target, svid, Instant::now() + TIME).await {
        Ok(wire) => {
            let until = timestamp(wire.peer().not_after());
            Finding::ok(name, format!("{target} is {}, until {until}", wire.peer().id()))
        }
        Err(error) => {
            let repair = "compare the clocks of the nodes and the trust domains of both pods";
            Finding::failed(name, causes(&error).to_string(), *breaks, repair)
        }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {TIME:?}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::testing::{Authority, Workload, echo::Endpoint};

    fn peer(target: Address) -> Peer<'static> {
        Peer { name: "nsmgr", target, breaks: "registering", repair: "run nsmgr" }
    }

    #[tokio::test]
    async fn a_peer_is_reached_or_named_with_the_effect_and_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nsmgr.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(reach(&peer(Address::Unix(path)), None).await.state, State::Ok);
        let gone = reach(&peer(Address::Unix(folder.path().join("none"))), None).await;
        assert_eq!((gone.state, &*gone.breaks, &*gone.repair), (State::Failed, "registering", "run nsmgr"));
        assert!(gone.found.contains("/none: "), "{gone:?}");
        let unknown = reach(&peer(Address::Tcp("no-such-host.invalid:1".into())), None).await;
        assert!(
            unknown.found.contains("cannot be resolved") && unknown.repair.contains("DNS"),
            "{unknown:?}"
        );
    }

    #[tokio::test]
    async fn a_peer_is_shown_by_its_certificate() {
        let ours = Authority::new("a.test");
        let endpoint = Endpoint::of(&ours).await;
        let finding = reach(&peer(endpoint.address.clone()), Some(ours.svid("proxy"))).await;
        assert_eq!(finding.state, State::Ok, "{finding:?}");
        assert!(finding.found.contains(" is spiffe://a.test/endpoint, until 20"), "{finding:?}");
        let stranger = Endpoint::of(&Authority::new("b.test")).await;
        let finding = reach(&peer(stranger.address.clone()), Some(ours.svid("proxy"))).await;
        assert_eq!(finding.state, State::Failed);
        assert!(finding.found.contains("spiffe://b.test/endpoint"), "{finding:?}");
        assert!(finding.repair.contains("trust domains"), "{finding:?}");
    }

    #[tokio::test]
    async fn a_workload_api_issues_an_svid_or_has_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let agent = Workload::listen(folder.path().join("agent.sock")).unwrap();
        let authority = Authority::new("a.test");
        agent.grant(authority.issue(&authority.pod("red", "proxy"), Duration::from_secs(3600)));
        let (finding, svid) = workload_api(&agent.url()).await;
        assert_eq!(finding.unwrap().state, State::Ok);
        assert!(svid.is_some());
        agent.refuse();
        let (finding, svid) = workload_api(&agent.url()).await;
        let finding = finding.unwrap();
        assert!(
            finding.state == State::Failed && finding.repair.contains("register this pod"),
            "{finding:?}"
        );
        assert!(svid.is_none());
    }
}
