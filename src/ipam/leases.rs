// SPDX-License-Identifier: Apache-2.0

//! Settings and status of leases, and the handle on the task that owns them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tracing::Span;

use super::{
    AllocateError, Allocator, Lease, LeaseError,
    entry::Waiter,
    lease::MAX_NAME,
    list::List,
    restored::{Record, Restored},
    worker::{Command, Publish, Worker},
};
use crate::{api::Family, chain::Owner, task::Tasks};

/// Name of the child whose addresses are those of the bridge: the gateways of the targets.
pub const BRIDGE: &str = "bridge";
/// Name of the child whose addresses all ports towards targets have. Nothing is forwarded by these
/// addresses, so one pair is enough for every port.
pub const PORTS: &str = "ports";
/// Maximum number of leases.
pub const MAX_LEASES: usize = 16_384;
/// Maximum number of holders and waiting callers of all leases.
pub(crate) const MAX_HOLDERS: usize = 4 * MAX_LEASES;

/// Settings of all leases.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Families of every lease; at least one.
    pub families: Vec<Family>,
    /// Time between the end of the last holder and the release. Longer than a Request may take.
    pub release_delay: Duration,
    /// Time between renewals, varied by a tenth. Well below the age at which the service collects
    /// leases that were not renewed.
    pub renew: Duration,
    /// Timeout of one call.
    pub rpc_timeout: Duration,
}

impl Default for Settings {
    /// Both families, released after 20 s, renewed every 10 min, 10 s for a call.
    fn default() -> Self {
        Self {
            families: Family::BOTH.to_vec(),
            release_delay: Duration::from_secs(20),
            renew: Duration::from_secs(600),
            rpc_timeout: Duration::from_secs(10),
        }
    }
}

/// The state of the leases, for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Leases that callers wait for.
    pub wanted: usize,
    /// Leases with holders.
    pub held: usize,
    /// Leases without holders that are not released yet.
    pub releasing: usize,
    /// Held leases of an earlier process that the service has not confirmed yet.
    pub unverified: usize,
    /// Names of held leases for which a renewal returned other addresses than those in use, until
    /// they are acquired again.
    pub moved: BTreeSet<Arc<str>>,
    /// Subnets of the addresses in use, without those of the proxy itself, with the number of
    /// leases in each.
    pub subnets: BTreeMap<IpNet, usize>,
    /// Calls that failed so far.
    pub failures: u64,
    /// Why the last call failed, if it did.
    pub last_error: Option<AllocateError>,
}

/// The leases of one conduit on one node. Clones share them.
///
/// One task owns all leases and makes the calls, so that a caller that goes away leaves nothing
/// half done.
///
/// ```
/// # use std::time::Duration;
/// # use nsm::{api::Family, task::Tasks, ipam::{InMemory, Leases, Settings, Subnet, Tree}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tree = Tree::new("trench-a");
/// tree.add_conduit("load-balancer")?;
/// let subnet = Subnet { trench: "trench-a".into(), conduit: "load-balancer".into(), node: "node-a".into() };
/// let tasks = Tasks::default();
/// let leases = Leases::start(InMemory::new(tree, subnet), Settings::default(), &tasks);
///
/// let deadline = tokio::time::Instant::now() + Duration::from_secs(15);
/// let lease = leases.acquire("target-a-src", deadline).await?;
/// assert_eq!(lease.addresses().v4.map(|net| net.to_string()).as_deref(), Some("169.255.0.1/24"));
/// drop(lease); // the last holder: released after `Settings::release_delay`
/// # tasks.stop().await; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Leases {
    commands: mpsc::Sender<Command>,
    slots: mpsc::Sender<Arc<str>>,
    status: watch::Receiver<Status>,
    list: watch::Receiver<List>,
}

impl Leases {
    /// Starts without leases. The task ends with `tasks`, after [`flush`](Self::flush), or when no
    /// handle is left and nothing remains to do.
    pub fn start(allocator: impl Allocator, settings: Settings, tasks: &Tasks) -> Self {
        Self::resume(allocator, settings, Vec::new(), tasks)
    }

    /// Starts with the [records](Self::records) of an earlier process. The name of a record is
    /// granted its addresses without a call, also while the service cannot be reached, and the
    /// service must confirm them. If it returns others, the next caller gets those.
    pub fn resume(
        allocator: impl Allocator,
        settings: Settings,
        records: Vec<Record>,
        tasks: &Tasks,
    ) -> Self {
        let (commands, received) = mpsc::channel(1_024);
        let (slots, dropped) = mpsc::channel(MAX_HOLDERS);
        let (publish, status) = watch::channel(Status::default());
        let (listed, list) = watch::channel(List::default());
        let restored = Restored::new(records, &settings.families);
        let publish = Publish { status: publish, list: listed };
        tasks.spawn(Worker::new(allocator, settings, restored, received, dropped, publish).run());
        Self { commands, slots, status, list }
    }

    /// Gets the addresses of a child of the proxy itself. All families are allocated at once; if
    /// one fails, the others are released. A held lease is returned without a call.
    ///
    /// # Errors
    /// [`LeaseError`]. The future may be dropped at any time: its allocations are released, or kept
    /// for the next caller.
    pub async fn acquire(&self, child: &str, deadline: Instant) -> Result<Lease, LeaseError> {
        self.ask(child, None, None, deadline).await
    }

    /// Like [`acquire`](Self::acquire), for an owner. A name that another owner has, or had until
    /// it is released, is not shared: the lease then gets a different name, for which the service
    /// allocates other addresses.
    ///
    /// # Errors
    /// Like [`acquire`](Self::acquire).
    pub async fn acquire_for(
        &self,
        child: &str,
        owner: Option<&Owner>,
        deadline: Instant,
    ) -> Result<Lease, LeaseError> {
        self.ask(child, owner, None, deadline).await
    }

    /// Like [`acquire`](Self::acquire), renewed at least this often as long as it is held.
    ///
    /// # Errors
    /// Like [`acquire`](Self::acquire).
    pub async fn acquire_renewed(
        &self,
        child: &str,
        every: Duration,
        deadline: Instant,
    ) -> Result<Lease, LeaseError> {
        self.ask(child, None, Some(every), deadline).await
    }

    async fn ask(
        &self,
        child: &str,
        owner: Option<&Owner>,
        renew: Option<Duration>,
        deadline: Instant,
    ) -> Result<Lease, LeaseError> {
        if child.is_empty() || child.len() > MAX_NAME {
            return Err(LeaseError::Name { length: child.len() });
        }
        let slot = self.slots.clone().try_reserve_owned().map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LeaseError::TooMany { limit: MAX_HOLDERS },
            mpsc::error::TrySendError::Closed(_) => LeaseError::Stopped,
        })?;
        let (reply, answer) = oneshot::channel();
        let child = child.into();
        let owner = owner.cloned();
        let command =
            Command::Acquire { child, owner, renew, waiting: Waiter { slot, reply, span: Span::current() } };
        let acquired = async {
            self.commands.send(command).await.map_err(|_| LeaseError::Stopped)?;
            answer.await.map_err(|_| LeaseError::Stopped)?
        };
        timeout_at(deadline, acquired).await.map_err(|_| LeaseError::Deadline)?
    }

    /// The present state of the leases, and its changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The leases one by one. Changes are not notified.
    pub(crate) fn list(&self) -> watch::Receiver<List> {
        self.list.clone()
    }

    /// The leases that a later process may continue, sorted by name: held ones, those without
    /// holders that are not released yet, and the records of an earlier process that are not
    /// acquired yet. `None` after a [`flush`](Self::flush).
    pub async fn records(&self) -> Option<Vec<Record>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Records(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Stops: releases leases without holders at once, as far as possible until the deadline, then
    /// makes no more calls. Held leases stay allocated for a later process, also when their holders
    /// are dropped later. Returns their [records](Self::records), or `None` if the task did not end
    /// in time.
    pub async fn flush(&self, deadline: Instant) -> Option<Vec<Record>> {
        let (done, flushed) = oneshot::channel();
        let flushed = async {
            self.commands.send(Command::Flush { deadline, done }).await.ok()?;
            flushed.await.ok()
        };
        // The task keeps the deadline; the margin only matters if it is overloaded.
        timeout_at(deadline + Duration::from_secs(1), flushed).await.ok()?
    }
}
