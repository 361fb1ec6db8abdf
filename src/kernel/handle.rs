// SPDX-License-Identifier: Apache-2.0

//! Declare what should be true, and see what is.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    Ends, PeerId, Status,
    claims::{Claims, State},
    liveness::Verdicts,
    vip_rules,
};
use crate::api::{Dual, InterfaceName};

/// Handle on the desired state of one conduit. Clones share the state. Declaring never waits: the reconciler makes true what was
/// declared, tries again what fails, and tells in [`Status`].
///
/// ```
/// # use meridio_proxy::{api::Dual, chain::Tasks, kernel::{Ends, Kernel, Memory, PeerId, Settings}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let linux = Memory::default();
/// let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
/// kernel.set_gateways(Dual { v4: Some("172.16.1.1/24".parse()?), v6: None });
/// kernel.set_vips(&["20.0.0.1/32".parse()?]);
/// let lb = PeerId::load_balancer("px-lb-1");
/// linux.add_link("nsm-1", None);
/// let port = kernel.port(&lb, "nsm-1".parse()?, Ends::default());
/// let hop = kernel.next_hop(&lb, "172.16.1.2".parse()?);
/// kernel.settled().await;
/// assert!(kernel.status().borrow().has_next_hop("172.16.1.2".parse()?));
/// drop(hop);
/// kernel.settled().await;
/// assert!(!kernel.status().borrow().has_next_hop("172.16.1.2".parse()?));
/// # tasks.stop().await; Ok(()) }
/// ```
#[derive(Clone)]
pub struct Kernel {
    pub(super) claims: Arc<Claims>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) verdicts: watch::Receiver<Verdicts>,
    /// Why the reconciler has ended.
    pub(super) end: watch::Receiver<Option<String>>,
}

/// Keeps a link desired as a port of the bridge; see [`Kernel::port`].
#[must_use = "the port is withdrawn when the guard is dropped"]
pub struct PortGuard {
    claims: Arc<Claims>,
    peer: PeerId,
    guard: u64,
}

/// Keeps a next hop desired; see [`Kernel::next_hop`].
#[must_use = "the next hop is withdrawn when the guard is dropped"]
pub struct NextHopGuard {
    claims: Arc<Claims>,
    peer: PeerId,
    guard: u64,
}

/// Keeps a load balancer in doubt; see [`Kernel::doubt`].
#[must_use = "the doubt ends when the guard is dropped"]
pub struct DoubtGuard {
    claims: Arc<Claims>,
    peer: PeerId,
    guard: u64,
}

impl Kernel {
    /// Wait until the reconciler has ended, and why: it was stopped, or it panicked. What it left in the kernel stays, and what is
    /// declared has no effect any more.
    pub async fn ended(&self) -> String {
        let mut end = self.end.clone();
        let why = end.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "its thread has ended".to_owned())
    }

    /// Desire that the link of a connection is a port of the bridge, as long as the guard lives.
    /// The link may appear later. Until it is a port, and after it was one, what it receives is
    /// forwarded nowhere. The gateway that the addresses of the connection belong to stays, and
    /// those of the other end are announced when another link is behind them. Several guards for
    /// one link count as one.
    pub fn port(&self, peer: &PeerId, link: InterfaceName, ends: Ends) -> PortGuard {
        let guard = self.claims.declare(|state| state.claim_port(peer, link, ends));
        PortGuard { claims: self.claims.clone(), peer: peer.clone(), guard }
    }

    /// Desire that packets from VIPs may go to this address of a load balancer, as long as the guard lives. It is installed while
    /// the connection's link is a port that carries frames, the address is in the subnet of a gateway, and it answers. Several
    /// guards for one address count as one.
    pub fn next_hop(&self, peer: &PeerId, address: IpAddr) -> NextHopGuard {
        let guard = self.claims.declare(|state| state.claim_next_hop(peer, address));
        NextHopGuard { claims: self.claims.clone(), peer: peer.clone(), guard }
    }

    /// Withdraw next hops that an earlier process left, so that their links can be replaced. Those that are declared stay.
    pub fn withdraw(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.claims.declare(|state| state.withdraw(addresses));
    }

    /// Report whether a next hop answers. Until the first report it counts as one that does.
    pub fn set_answers(&self, address: IpAddr, answers: bool) {
        self.claims.declare(|state| state.set_answers(address, answers));
    }

    /// Prefer the next hops of other load balancers to those of this one, as long as the guard lives: there is reason to doubt that
    /// it forwards. If no other answers, its own stay.
    pub fn doubt(&self, peer: &PeerId) -> DoubtGuard {
        let guard = self.claims.declare(|state| state.doubt(peer));
        DoubtGuard { claims: self.claims.clone(), peer: peer.clone(), guard }
    }

    /// Ask a next hop for its link-layer address again: the link behind it may have been made anew where this kernel does not see it.
    /// Without effect on an address that nobody has declared.
    pub fn linked_anew(&self, address: IpAddr) {
        self.claims.declare(|state| state.link_anew(address));
    }

    /// Set the addresses of the bridge, with the length of their subnets. A former one stays as long as a connection lies in its
    /// subnet, and for the adoption time at least.
    pub fn set_gateways(&self, gateways: Dual<IpNet>) {
        self.claims.declare(|state| state.set_gateways(gateways));
    }

    /// Set the VIPs, of both families. An empty list after a non-empty one takes effect after the grace time. Their number
    /// is for the caller to bound: the kernel takes seconds to insert 10,000 rules.
    pub fn set_vips(&self, vips: &[IpNet]) {
        let rules = Arc::new(vip_rules(&self.claims.settings.ours, vips));
        self.claims.declare(|state| state.set_vips(rules));
    }

    /// Declare that the proxy is ready: from now on, what an earlier process left may be found to be abandoned. Once is enough.
    pub fn ready(&self) {
        self.claims.declare(State::ready);
    }

    /// Declare the connection ids of all load balancers that the registry has, by a complete picture. What an earlier process left
    /// of others is released. A picture that is empty, or was taken before the proxy was [`ready`](Self::ready), releases nothing.
    pub fn set_registered(&self, ids: BTreeSet<String>) {
        self.claims.declare(|state| state.set_registered(ids));
    }

    /// State of the kernel, as of the last look at it.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Which next hops answer probes, as far as that has been found out. Without probes, nothing is.
    pub fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.clone()
    }

    /// Wait until a pass has had everything that was declared before the call. It is then true, or [`Status`] says why not.
    pub async fn settled(&self) {
        let revision = self.claims.revision();
        let mut status = self.status.clone();
        let _ended = status
            .wait_for(|status| status.stopped || status.passes > 0 && status.revision >= revision)
            .await;
    }

    /// Withdraw next hops and VIP rules, then the bridge, then the leak stop, and end the reconciler. If the bridge still has
    /// ports, it stays, with the leak stop, for a successor. Guards that live longer have no effect. Returns at the deadline, at
    /// the latest.
    pub async fn stop(self, deadline: Instant) {
        self.claims.declare(State::stop);
        let mut status = self.status.clone();
        let stopped = status.wait_for(|status| status.stopped);
        if timeout_at(deadline, stopped).await.is_err() {
            tracing::error!("the reconciler did not withdraw everything before the deadline");
        }
    }
}

impl Drop for PortGuard {
    fn drop(&mut self) {
        self.claims.declare(|state| state.release_port(&self.peer, self.guard));
    }
}

impl Drop for NextHopGuard {
    fn drop(&mut self) {
        self.claims.declare(|state| state.release_next_hop(&self.peer, self.guard));
    }
}

impl Drop for DoubtGuard {
    fn drop(&mut self) {
        self.claims.declare(|state| state.trust(&self.peer, self.guard));
    }
}
