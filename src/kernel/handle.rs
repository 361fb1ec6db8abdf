// SPDX-License-Identifier: Apache-2.0

//! The handle by which elements declare the desired state and read the present one.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    Ends, PeerId, Status, Work,
    claims::{Claims, State},
    liveness::Verdicts,
    vip_rules,
};
use crate::api::{Dual, InterfaceName};

/// Handle on the desired state of one conduit. Clones share the state. Declaring never waits: the
/// reconciler brings the kernel to the declared state, repeats changes that fail, and reports in
/// [`Status`].
///
/// ```
/// # use nsm::{api::Dual, task::Tasks, kernel::{Ends, Kernel, Memory, PeerId, Settings}};
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
    /// Waits until the reconciler has ended, and returns the reason: it was stopped, or it
    /// panicked. Its objects stay in the kernel, and declarations have no effect any more.
    pub async fn ended(&self) -> String {
        let mut end = self.end.clone();
        let why = end.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| "its thread has ended".to_owned())
    }

    /// Declares the link of a connection as a port of the bridge, for as long as the guard lives.
    ///
    /// The link may appear later. While it is not a port, packets that it receives are forwarded
    /// nowhere. The gateway whose subnet contains the addresses of the connection stays. The
    /// addresses of the other end are announced when another link is behind them. Several guards
    /// for one link count as one.
    pub fn port(&self, peer: &PeerId, link: InterfaceName, ends: Ends) -> PortGuard {
        let guard = self.claims.declare(|state| state.claim_port(peer, link, ends));
        PortGuard { claims: self.claims.clone(), peer: peer.clone(), guard }
    }

    /// Declares an address of a load balancer as a next hop for packets from VIPs, for as long as
    /// the guard lives.
    ///
    /// The next hop is installed while the connection's link is a port that carries frames, the
    /// address is in the subnet of a gateway, and the address answers. Several guards for one
    /// address count as one.
    pub fn next_hop(&self, peer: &PeerId, address: IpAddr) -> NextHopGuard {
        let guard = self.claims.declare(|state| state.claim_next_hop(peer, address));
        NextHopGuard { claims: self.claims.clone(), peer: peer.clone(), guard }
    }

    /// Withdraws next hops that an earlier process left, so that their links can be replaced.
    /// Declared next hops stay.
    pub fn withdraw(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.claims.declare(|state| state.withdraw(addresses));
    }

    /// Reports whether a next hop answers. Until the first report it counts as answering.
    pub fn set_answers(&self, address: IpAddr, answers: bool) {
        self.claims.declare(|state| state.set_answers(address, answers));
    }

    /// Prefers the next hops of other load balancers to those of this one, for as long as the guard
    /// lives, because this one may not forward. If no other answers, its next hops stay.
    pub fn doubt(&self, peer: &PeerId) -> DoubtGuard {
        let guard = self.claims.declare(|state| state.doubt(peer));
        DoubtGuard { claims: self.claims.clone(), peer: peer.clone(), guard }
    }

    /// Invalidates the neighbour entry of a next hop, so that its link-layer address is resolved
    /// again: the link behind it may have been replaced where this kernel does not see it. Has no
    /// effect on an address that is not declared.
    pub fn relinked(&self, address: IpAddr) {
        self.claims.declare(|state| state.relink(address));
    }

    /// Sets the addresses of the bridge, with the length of their subnets. A former address stays
    /// for as long as a connection lies in its subnet, and at least for the adoption time.
    pub fn set_gateways(&self, gateways: Dual<IpNet>) {
        self.claims.declare(|state| state.set_gateways(gateways));
    }

    /// Sets the VIPs of both families. An empty list after a non-empty one takes effect after the
    /// grace time. The caller must bound their number: the kernel takes seconds to insert 10,000
    /// rules.
    pub fn set_vips(&self, vips: &[IpNet]) {
        let rules = Arc::new(vip_rules(&self.claims.settings.ours, vips));
        self.claims.declare(|state| state.set_vips(rules));
    }

    /// Declares that the proxy is ready. From then on, objects that an earlier process left may be
    /// found to be abandoned. Further calls have no effect.
    pub fn ready(&self) {
        self.claims.declare(State::ready);
    }

    /// Declares the connection ids of all load balancers in the registry. The list must be
    /// complete. Objects that an earlier process left of other load balancers are released. A list
    /// that is empty, or from before the proxy was [`ready`](Self::ready), releases nothing.
    pub fn set_registered(&self, ids: BTreeSet<String>) {
        self.claims.declare(|state| state.set_registered(ids));
    }

    /// State of the kernel, as of the last read.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Which next hops answer probes, as far as is known. Without probes nothing is known.
    pub fn verdicts(&self) -> watch::Receiver<Verdicts> {
        self.verdicts.clone()
    }

    /// Numbers of probes and announcements.
    pub fn work(&self) -> Arc<Work> {
        Arc::clone(&self.claims.work)
    }

    /// Waits until a pass has processed everything that was declared before the call. It is then in
    /// effect, or [`Status`] has the reason why not.
    pub async fn settled(&self) {
        let revision = self.claims.revision();
        let mut status = self.status.clone();
        let _ended = status
            .wait_for(|status| status.stopped || status.passes > 0 && status.revision >= revision)
            .await;
    }

    /// Withdraws next hops and VIP rules, then the bridge, then the leak stops, and ends the
    /// reconciler. If the bridge still has ports, the bridge and the leak stops stay for a
    /// successor. Guards that live longer have no effect. Returns at the deadline at the latest.
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
