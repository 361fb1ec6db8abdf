// SPDX-License-Identifier: Apache-2.0

//! The problems that a state shows, causes before their effects, each with the next step.

use serde_json::{Value, json};

use super::super::inspect::named;
use crate::proxy::state::{Document, LoadBalancer};

/// Validity of an SVID below which a rotation is late, in seconds.
const SHORT: u64 = 60;

/// A fact that keeps the proxy from being well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The fact, with its reason.
    pub(super) what: String,
    /// A command or an action.
    pub(super) next: &'static str,
    /// Traffic or the start depends on it.
    pub(super) severe: bool,
}

impl Problem {
    pub(super) fn json(&self) -> Value {
        json!({"problem": self.what, "next": self.next, "severe": self.severe})
    }
}

/// Every problem of a state. A degradation of health is left out if a problem has its text.
pub(super) fn problems(document: &Document) -> Vec<Problem> {
    let mut found = Vec::new();
    start(document, &mut found);
    identity(document, &mut found);
    services(document, &mut found);
    kernel(document, &mut found);
    mesh(document, &mut found);
    targets(document, &mut found);
    drift(document, &mut found);
    rest(document, &mut found);
    found
}

fn severe(found: &mut Vec<Problem>, what: impl Into<String>, next: &'static str) {
    found.push(Problem { what: what.into(), next, severe: true });
}

fn mild(found: &mut Vec<Problem>, what: impl Into<String>, next: &'static str) {
    found.push(Problem { what: what.into(), next, severe: false });
}

/// A start that waits for a peer, or that a step of the process itself holds up.
fn start(document: &Document, found: &mut Vec<Problem>) {
    let Some(step) = &document.start.step else { return };
    let peers = [
        ("SPIFFE", "see the SPIRE agent of this node and the registration of this pod; proxy check"),
        ("IPAM", "see the pod of IPAM and its service; proxy check"),
        ("nsmgr", "see the nsmgr of this node; proxy check"),
    ];
    match peers.into_iter().find(|(peer, _)| step.contains(peer)) {
        Some((_, next)) => severe(found, format!("the start {step}"), next),
        None => mild(found, format!("the start {step}"), "wait; if it stays, see proxy inspect events"),
    }
}

fn identity(document: &Document, found: &mut Vec<Problem>) {
    const NEXT: &str = "see the SPIRE agent of this node and the registration of this pod; proxy check";
    let Some(identity) = &document.identity else { return };
    let why = identity.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    match (&identity.id, identity.expires_in_seconds) {
        (None, _) => severe(found, format!("no SVID{why}"), NEXT),
        (Some(id), Some(0)) => severe(found, format!("the SVID of {id} has expired{why}"), NEXT),
        (Some(id), Some(left)) if left < SHORT => {
            mild(found, format!("the SVID of {id} expires in {left} s{why}"), NEXT);
        }
        _ if identity.error.is_some() => mild(found, format!("no new SVID{why}"), NEXT),
        _ => {}
    }
}

fn services(document: &Document, found: &mut Vec<Problem>) {
    for (name, service) in named(document).filter(|(_, service)| !service.up) {
        let why = service.error.as_ref().or(service.last_error.as_ref());
        let why = why.map_or("no answer yet", String::as_str);
        let next = match name {
            "IPAM" => "see the pod of IPAM and its service; proxy check",
            "NSP" => "see the pod of NSP and its service; proxy check",
            "nsmgr" => "see the nsmgr of this node; proxy check",
            _ => "see the registry and the nsmgr of this node; proxy inspect services",
        };
        severe(found, format!("{name} ({}) is down: {why}", service.address), next);
    }
    if let Some(nsmgr) = document.services.nsmgr.as_ref().filter(|nsmgr| nsmgr.up)
        && let Some(why) = &nsmgr.error
    {
        // The registration holds until it lapses.
        let what = format!("nsmgr ({}) does not refresh the registration: {why}", nsmgr.address);
        mild(found, what, "see the nsmgr of this node; proxy check");
    }
    // The error of the last call stays until the next one; it matters while somebody waits.
    let waiting = document.leases.as_ref().filter(|leases| leases.wanted > 0 || leases.unverified > 0);
    if let Some(error) = waiting.and_then(|leases| leases.error.as_ref()) {
        mild(found, format!("IPAM refuses a lease: {error}"), "proxy inspect leases; see the pod of IPAM");
    }
    renumbering(document, found);
    if let Some(count) = document.vips.as_ref().and_then(|vips| vips.refused) {
        let what = format!("NSP's list of {count} VIPs is refused, the last one stays");
        mild(found, what, "lower the number of VIPs of the trench");
    }
}

fn kernel(document: &Document, found: &mut Vec<Problem>) {
    let Some(kernel) = &document.kernel else { return };
    if kernel.stopped {
        severe(found, "the kernel is not reconciled any more", "restart the pod, and report the bug");
    }
    for failure in &kernel.failures {
        severe(found, format!("the kernel refuses: {failure}"), "proxy plan; proxy check");
    }
    for sysctl in &kernel.sysctls {
        let what = sysctl.fault.clone();
        found.push(Problem {
            what,
            next: "proxy check prints the line that repairs it",
            severe: sysctl.stops,
        });
    }
}

/// The changes by others that were reverted. They are over, so problems that last come first.
fn drift(document: &Document, found: &mut Vec<Problem>) {
    let reverted = document.kernel.as_ref().and_then(|kernel| kernel.reverted.split_first());
    let Some((last, others)) = reverted else { return };
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    let what = format!("others change what is declared, and it is taken back: {last}{more}");
    mild(found, what, "stop the other program; in the pod, ip monitor shows its changes");
}

/// A bridge with addresses of two subnets of a family.
fn renumbering(document: &Document, found: &mut Vec<Problem>) {
    let desired = document.kernel.as_ref().and_then(|kernel| kernel.desired.as_ref());
    let gateways = desired.map(|desired| desired.gateways.as_slice()).unwrap_or_default();
    let of = |v6: bool| gateways.iter().filter(|net| net.contains(':') == v6).count();
    if of(true) > 1 || of(false) > 1 {
        let all = gateways.join(", ");
        let what = format!("IPAM has moved addresses to others, connections follow: the bridge has {all}");
        mild(found, what, "wait; if it was not intended, see the store of IPAM; proxy inspect leases");
    }
}

fn mesh(document: &Document, found: &mut Vec<Problem>) {
    let Some(mesh) = &document.mesh else { return };
    if let Some(error) = &mesh.error {
        mild(found, format!("the registry cannot be read: {error}"), "see the registry and nsmgr");
    }
    if mesh.known && mesh.load_balancers.is_empty() {
        let service = &document.conduit.load_balancers;
        let next = "see the pods of the load balancers: each registers itself";
        severe(found, format!("the registry lists no load balancer of {service}"), next);
    }
    forwarder(document, &mesh.load_balancers, found);
    mesh.load_balancers.iter().for_each(|peer| load_balancer(peer, found));
}

/// The forwarder, if every connection fails while nsmgr is well.
fn forwarder(document: &Document, all: &[LoadBalancer], found: &mut Vec<Problem>) {
    let nsmgr = document.services.nsmgr.as_ref().filter(|nsmgr| nsmgr.up && nsmgr.error.is_none());
    let failing = all.iter().filter(|peer| peer.state == "connected");
    let failing: Vec<_> = failing.filter_map(|peer| peer.error.as_ref()).collect();
    let (Some(nsmgr), [first, _, ..]) = (nsmgr, failing.as_slice()) else { return };
    if failing.len() == all.len() && failing.iter().all(|error| !error.contains(&nsmgr.address)) {
        let what = format!(
            "nsmgr answers, but no connection can be made through it: the forwarder of this node is the likely \
             cause: {first}"
        );
        severe(found, what, "see the forwarder of this node and the log of nsmgr; proxy inspect events");
    }
}

fn load_balancer(peer: &LoadBalancer, found: &mut Vec<Problem>) {
    let name = &peer.name;
    if let Some(error) = peer.error.as_ref().filter(|_| peer.state != "connected") {
        let next = "see the load balancer, the forwarder and nsmgr; proxy inspect links";
        return severe(found, format!("load balancer {name} refuses the connection: {error}"), next);
    }
    let next = "see the load balancer, the forwarder and nsmgr; proxy inspect events";
    if peer.state == "requesting" {
        return severe(found, format!("load balancer {name} has not answered the Request yet"), next);
    }
    if peer.state == "connected" && peer.links.is_empty() {
        return severe(found, format!("load balancer {name} has no link: its connection is healed"), next);
    }
    let broken = peer.links.iter().find(|link| link.state != "running");
    if let Some(link) = broken {
        let what = format!("the link {} of load balancer {name} is {}", link.name, link.state);
        return severe(found, what, "see the forwarder of this node; ip link; proxy inspect links");
    }
    if peer.reach == "silent" {
        let what = format!("load balancer {name} does not answer ARP or neighbour solicitations");
        return severe(found, what, "see the pod of the load balancer; proxy explain its address");
    }
    if let Some(error) = &peer.error {
        let what = format!("the connection to load balancer {name} is not renewed: {error}");
        return severe(found, what, next);
    }
    for hop in &peer.next_hops {
        if let Some(why) = &hop.withheld {
            let what = format!("next hop {} of load balancer {name} is left out: {why}", hop.address);
            severe(found, what, "proxy inspect next-hops; proxy explain its address");
        }
    }
}

fn targets(document: &Document, found: &mut Vec<Problem>) {
    for target in &document.targets {
        for link in target.links.iter().filter(|link| link.state != "running") {
            let what = format!("the link {} of target {} is {}", link.name, target.connection, link.state);
            mild(found, what, "see the target's pod and the forwarder; proxy inspect links");
        }
    }
}

/// The reasons of health that no problem has named.
fn rest(document: &Document, found: &mut Vec<Problem>) {
    let parts =
        document.health.iter().filter(|verdict| verdict.name != "Readiness" && verdict.name != "Liveness");
    let named = named_peers(document, found);
    for verdict in parts {
        let reasons = verdict.degraded.iter().chain(Some(&verdict.reason).filter(|_| !verdict.serving));
        for reason in reasons {
            let listed = found.iter().any(|problem| problem.what.contains(reason.as_str()));
            if reason.is_empty() || listed || named.iter().any(|peer| reason.starts_with(peer)) {
                continue;
            }
            let next = if reason.contains("net.") {
                "proxy check prints the line that repairs it"
            } else {
                "proxy inspect; docs/operations.md"
            };
            found.push(Problem {
                what: format!("{}: {reason}", verdict.name),
                next,
                severe: !verdict.serving,
            });
        }
    }
}

/// The beginnings of the degradations of peers of which there is a problem already.
fn named_peers(document: &Document, found: &[Problem]) -> Vec<String> {
    let listed = |name: &str| found.iter().any(|problem| problem.what.contains(name));
    let balancers = document.mesh.iter().flat_map(|mesh| &mesh.load_balancers);
    let balancers = balancers.filter(|peer| listed(&format!("load balancer {}", peer.name)));
    let balancers = balancers.map(|peer| format!("load balancer {}:", peer.connection));
    let targets = document.targets.iter().map(|target| format!("target {}", target.connection));
    balancers.chain(targets.filter(|target| listed(target)).map(|target| target + ":")).collect()
}
