// SPDX-License-Identifier: Apache-2.0
//! Leases the addresses of the bridge and holds them: the gateways of all targets.
//!
//! IPAM records them under the name [`BRIDGE`]; without renewal it collects the node's whole
//! prefix. If IPAM returns other addresses on a renewal, the bridge gets those, and new and
//! refreshed targets receive them. Addresses of an earlier process are used without waiting for
//! IPAM, which then confirms or replaces them.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::health::{Health, Part};
use crate::{
    chain::causes,
    elements::ipam,
    ipam::{BRIDGE, Lease, LeaseError, Leases, PORTS},
    kernel::Kernel,
    task::{Backoff, Task, Tasks},
};

/// Timeout of one attempt.
const ATTEMPT: Duration = Duration::from_secs(10);
/// First and longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// Degradation of IPAM while it has moved addresses in use.
const MOVED: &str = "IPAM has moved addresses to others, connections follow";

/// The addresses of the bridge, held for as long as this lives.
#[derive(Debug)]
pub struct Gateways {
    current: watch::Receiver<ipam::Gateways>,
    _task: Task,
}

impl Gateways {
    /// Leases the addresses, however long that takes, and declares them to the kernel. Health shows
    /// the step that is waited for.
    ///
    /// # Errors
    /// The leases have been stopped.
    pub async fn lease(
        leases: &Leases,
        kernel: &Kernel,
        renew: Duration,
        health: &Health,
        tasks: &Tasks,
    ) -> Result<Self, LeaseError> {
        let lease = acquire(leases, renew, health).await?;
        kernel.set_gateways(lease.addresses());
        let (publish, current) = watch::channel(lease.addresses().into());
        let leases = leases.clone();
        let kernel = kernel.clone();
        let health = health.clone();
        let renewal = Renewal { leases, health, kernel, renew, lease, publish };
        Ok(Self { current, _task: tasks.guarded(renewal.run()) })
    }

    /// The addresses and their changes, with the length of the node's prefix.
    pub fn current(&self) -> watch::Receiver<ipam::Gateways> {
        self.current.clone()
    }
}

/// Holds the addresses of the ports, so that no joining target waits for them. Ends only when the
/// leases are stopped.
pub async fn hold_ports(leases: Leases) {
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        match leases.acquire(PORTS, Instant::now() + ATTEMPT).await {
            Err(LeaseError::Stopped) => return,
            Err(error) => tracing::warn!(error = causes(&error), "the ports have no addresses yet"),
            Ok(_held) => std::future::pending().await,
        }
        sleep(pauses.delay()).await;
    }
}

async fn acquire(leases: &Leases, renew: Duration, health: &Health) -> Result<Lease, LeaseError> {
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
    health.waits_on("IPAM, for the addresses of the bridge");
    loop {
        match leases.acquire_renewed(BRIDGE, renew, Instant::now() + ATTEMPT).await {
            Err(error @ LeaseError::Stopped) => return Err(error),
            Err(error) => {
                health.waits_on(&format!("IPAM, for the addresses of the bridge: {}", causes(&error)))
            }
            Ok(lease) => return Ok(lease),
        }
        sleep(pauses.delay()).await;
    }
}

struct Renewal {
    leases: Leases,
    health: Health,
    kernel: Kernel,
    renew: Duration,
    lease: Lease,
    publish: watch::Sender<ipam::Gateways>,
}

impl Renewal {
    /// Follows the results of renewals, until the leases are stopped.
    async fn run(mut self) {
        let mut status = self.leases.status();
        loop {
            let moved = status.borrow_and_update().moved.clone();
            let found = (!moved.is_empty()).then(|| MOVED.to_owned());
            self.health.degrade(Part::Ipam, "renewals", found);
            if moved.contains(BRIDGE) {
                self.follow().await;
            }
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow(&mut self) {
        match self.leases.acquire_renewed(BRIDGE, self.renew, Instant::now() + ATTEMPT).await {
            Ok(lease) => self.replace(lease),
            Err(error) => {
                tracing::warn!(error = causes(&error), "the addresses of the bridge are not renewed");
            }
        }
    }

    fn replace(&mut self, lease: Lease) {
        let before = self.lease.addresses();
        let now = lease.addresses();
        if before != now {
            tracing::warn!(?before, ?now, "IPAM has moved the bridge to other addresses");
            self.kernel.set_gateways(now);
            self.publish.send_modify(|gateways| gateways.move_to(now));
        }
        self.lease = lease;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Dual, Family},
        ipam::{Fault, InMemory, Record, Settings, Subnet, Tree},
        kernel,
        proxy::health::LIVENESS,
    };

    fn ipam() -> InMemory {
        let tree = Tree::new("t");
        tree.add_conduit("c").unwrap();
        InMemory::new(tree, Subnet { trench: "t".into(), conduit: "c".into(), node: "n".into() })
    }

    #[tokio::test(start_paused = true)]
    async fn b02_the_bridge_gets_an_address_per_family_when_ipam_answers() {
        let tasks = Tasks::default();
        let health = Health::default();
        let ipam = ipam();
        ipam.faults().stand(Fault::Hang);
        let leases = Leases::start(ipam.clone(), Settings::default(), &tasks);
        let linux = kernel::Memory::default();
        let kernel = Kernel::start(kernel::Settings::of("t", "c", "n"), linux.clone(), &tasks);
        let leasing = Gateways::lease(&leases, &kernel, Duration::from_secs(300), &health, &tasks);
        tokio::pin!(leasing);
        let waited = tokio::time::timeout(Duration::from_secs(120), &mut leasing).await;
        assert!(waited.is_err(), "IPAM does not answer");
        let liveness = health.of(LIVENESS).unwrap();
        assert!(liveness.serving && liveness.reason.contains("IPAM"), "{liveness:?}");
        ipam.faults().clear();
        let gateways = tokio::time::timeout(Duration::from_secs(60), leasing).await.unwrap().unwrap();
        let current = gateways.current().borrow().now();
        assert_eq!(current.families().count(), 2);
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().gateways, current);
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn restored_gateways_are_used_at_once_and_ipam_decides_later() {
        let tasks = Tasks::default();
        let health = Health::default();
        let ipam = ipam();
        ipam.faults().stand(Fault::Hang);
        let before = Dual { v4: "172.16.9.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() };
        let records = vec![Record { child: BRIDGE.into(), owner: None, addresses: before }];
        let leases = Leases::resume(ipam.clone(), Settings::default(), records, &tasks);
        let kernel = Kernel::start(kernel::Settings::of("t", "c", "n"), kernel::Memory::default(), &tasks);
        let leasing = Gateways::lease(&leases, &kernel, Duration::from_secs(300), &health, &tasks);
        let gateways = tokio::time::timeout(Duration::from_secs(1), leasing).await.unwrap().unwrap();
        let mut current = gateways.current();
        assert_eq!(current.borrow_and_update().now(), before);
        sleep(Duration::from_secs(1800)).await;
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().gateways, before, "IPAM has been away for 30 minutes");
        ipam.faults().clear();
        tokio::time::timeout(Duration::from_secs(90), current.changed()).await.unwrap().unwrap();
        assert_eq!(current.borrow().now().v4.unwrap().to_string(), "169.255.0.1/24", "of IPAM");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn b03_other_addresses_on_a_renewal_become_the_gateways() {
        let tasks = Tasks::default();
        let health = Health::default();
        let ipam = ipam();
        let settings = Settings { families: vec![Family::V4], ..Settings::default() };
        let leases = Leases::start(ipam.clone(), settings, &tasks);
        let kernel = Kernel::start(kernel::Settings::of("t", "c", "n"), kernel::Memory::default(), &tasks);
        let renew = Duration::from_secs(300);
        let gateways = Gateways::lease(&leases, &kernel, renew, &health, &tasks).await.unwrap();
        let mut current = gateways.current();
        let first = current.borrow_and_update().now();
        ipam.faults().stand(Fault::Garble("172.16.9.9".into(), 24));
        tokio::time::timeout(renew * 2, current.changed()).await.expect("a renewal").unwrap();
        let moved = current.borrow().now();
        assert_eq!(current.borrow().former(), [first.v4.unwrap()]);
        assert_eq!(moved.v4.map(|net| net.to_string()).as_deref(), Some("172.16.9.9/24"));
        kernel.settled().await;
        assert_eq!(kernel.status().borrow().gateways, moved);
        tasks.stop().await;
    }
}
