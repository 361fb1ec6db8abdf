// SPDX-License-Identifier: Apache-2.0

//! Checks of the peers: their sockets, their names, the running proxy.

use std::{io, time::Duration};

use tokio::{net::lookup_host, time::timeout};

use super::Finding;
use crate::{
    proxy::{
        commands::admin::{self, AdminError},
        config::Config,
        state::{Document, Identity},
    },
    transport::{Address, address::Socket},
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
    let spire = config.spiffe_endpoint_socket.parse();
    let spire = spire.map(|target| Peer {
        name: "SPIRE",
        target,
        breaks: "the proxy has no identity: it waits, and is not ready",
        repair: "run the SPIRE agent on this node, and mount the folder of its socket",
    });
    let peers = [
        spire.ok(),
        Some(Peer {
            name: "nsmgr",
            target: config.connect_to.clone(),
            breaks: "no target finds the proxy, and the proxy no load balancer",
            repair: "run nsmgr on this node, and mount /var/lib/networkservicemesh",
        }),
        Some(Peer {
            name: "IPAM",
            target: config.ipam_service.clone(),
            breaks: "new connections have no addresses",
            repair: "see the pod and the service of IPAM, and NSM_IPAM_SERVICE",
        }),
        Some(Peer {
            name: "NSP",
            target: config.nsp_service.clone(),
            breaks: "VIPs do not change, and a new proxy has none",
            repair: "see the pod and the service of NSP, and NSM_NSP_SERVICE_NAME, NSM_NAMESPACE, NSM_TRENCH",
        }),
    ];
    futures::future::join_all(peers.iter().flatten().map(reach)).await
}

/// Resolves and connects.
async fn reach(peer: &Peer<'_>) -> Finding {
    let Peer { name, target, breaks, repair } = peer;
    if let Address::Tcp(address) = target {
        let resolved = timeout(TIME, lookup_host(address.as_str())).await.unwrap_or_else(|_| Err(late()));
        if let Err(error) = resolved {
            let found = format!("{target} cannot be resolved: {error}");
            return Finding::failed(name, found, *breaks, format!("see the DNS of the cluster; {repair}"));
        }
    }
    match timeout(TIME, Socket::connect(target)).await.unwrap_or_else(|_| Err(late())) {
        Ok(_) => Finding::ok(name, format!("{target} accepts connections")),
        Err(error) => Finding::failed(name, format!("{target}: {error}"), *breaks, *repair),
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {TIME:?}"))
}

/// The running proxy: its version, and its identity beside the clock.
pub(super) async fn running(admin: Option<&Address>) -> Vec<Finding> {
    match admin::document(admin).await {
        Ok(document) => vec![version(&document), identity(document.identity.as_ref())],
        Err(AdminError::NoProxy(target, _)) => {
            vec![Finding::ok(
                "proxy",
                format!("none runs at {target}: its identity and version are not checked"),
            )]
        }
        Err(error) => {
            let repair = "NSM_ADMIN_ADDRESS=127.0.0.1:9090, or --admin ADDRESS";
            let breaks = "status, inspect, plan and diags cannot read the proxy";
            vec![Finding::warning("proxy", crate::chain::causes(&error).to_string(), breaks, repair)]
        }
    }
}

fn version(document: &Document) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let running = &document.process.version;
    match running == ours {
        true => Finding::ok("version", format!("{ours}, as the proxy that runs")),
        false => {
            let breaks = "nothing; but this program may read less of the state than there is";
            let found = format!("{ours}; the proxy that runs is {running}");
            Finding::warning("version", found, breaks, "run the program of the pod's image")
        }
    }
}

/// An SVID that has expired by the clock of this node.
fn identity(identity: Option<&Identity>) -> Finding {
    const BREAKS: &str = "no peer accepts the proxy";
    const REPAIR: &str = "see the SPIRE agent and the registration of this pod, and compare the clock of this node \
                          with that of the SPIRE server";
    let left = identity.and_then(|identity| identity.expires_in_seconds);
    let why = identity.and_then(|identity| identity.error.as_deref());
    let why = why.map(|error| format!(" ({error})")).unwrap_or_default();
    match left {
        None => Finding::failed("identity", format!("no SVID{why}"), BREAKS, REPAIR),
        Some(0) => Finding::failed("identity", format!("the SVID has expired{why}"), BREAKS, REPAIR),
        Some(left) => Finding::ok("identity", format!("the SVID is valid for {left} s{why}")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::{super::State, *};
    use crate::proxy::commands::sample;

    fn peer(target: Address) -> Peer<'static> {
        Peer { name: "nsmgr", target, breaks: "registering", repair: "run nsmgr" }
    }

    #[tokio::test]
    async fn a_peer_is_reached_or_named_with_the_effect_and_the_repair() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nsmgr.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(reach(&peer(Address::Unix(path))).await.state, State::Ok);
        let gone = reach(&peer(Address::Unix(folder.path().join("none")))).await;
        assert_eq!((gone.state, &*gone.breaks, &*gone.repair), (State::Failed, "registering", "run nsmgr"));
        assert!(gone.found.contains("/none: "), "{gone:?}");
        let unknown = reach(&peer(Address::Tcp("no-such-host.invalid:1".into()))).await;
        assert!(
            unknown.found.contains("cannot be resolved") && unknown.repair.contains("DNS"),
            "{unknown:?}"
        );
    }

    #[test]
    fn an_expired_identity_and_another_version_are_found() {
        let mut document = sample::well();
        assert_eq!(version(&document).state, State::Ok);
        document.process.version = "0.0.0".into();
        assert_eq!(version(&document).state, State::Warning);
        let mut own = document.identity.clone().unwrap();
        assert_eq!(identity(Some(&own)).state, State::Ok);
        own.expires_in_seconds = Some(0);
        assert_eq!(identity(Some(&own)).state, State::Failed);
        assert_eq!(identity(None).state, State::Failed);
    }

    #[tokio::test]
    async fn without_a_proxy_its_checks_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let none = Address::Unix(folder.path().join("none"));
        let findings = running(Some(&none)).await;
        assert!(findings.len() == 1 && findings[0].state == State::Ok, "{findings:?}");
        assert_eq!(running(None).await[0].state, State::Warning);
    }
}
