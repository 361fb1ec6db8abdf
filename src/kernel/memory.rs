// SPDX-License-Identifier: Apache-2.0

//! A kernel in memory, for tests.
//!
//! It behaves as Linux does in everything that a plan may request; a contract test compares the two
//! step by step. Tests make the changes of other programs (links that come and go, rules of the Go
//! proxy) by [`Memory::change`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    Backend, Link, LinkKind, Mac, Observed, Op, Ours, Refusal, WrongSysctl,
    announce::Announcements,
    backend::in_effect,
    liveness::{self, Neighbour, Neighbours, Sight},
    world::World,
};
use crate::api::Family;

/// Time since the answer of a neighbour that answers.
const ANSWERED_AGO: Duration = Duration::from_millis(100);

/// A kernel in memory. Clones share it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    world: World,
    /// Number of changes requested so far.
    asked: u64,
    /// Changes made so far.
    made: Vec<Op>,
    /// Error numbers for single changes, by the number of changes requested before.
    refusals: BTreeMap<u64, i32>,
    /// Error number for all changes.
    refuse_all: Option<i32>,
    /// Error number for dumps.
    dump_errno: Option<i32>,
    wrong_sysctls: Vec<WrongSysctl>,
    /// Neighbours that do not answer.
    silent: BTreeSet<IpAddr>,
    /// Neighbours that have been solicited.
    asked_for: BTreeSet<IpAddr>,
    /// MAC addresses of neighbours. A neighbour that is not listed has one derived from its IP
    /// address.
    macs: BTreeMap<IpAddr, Mac>,
    announced: Vec<(IpAddr, Mac)>,
    /// Another program has changed something since the last dump.
    overtaken: bool,
    /// Announcements are not permitted.
    without_announcements: bool,
    /// Neighbours cannot be read.
    without_neighbours: bool,
}

impl Memory {
    /// Changes the kernel as another program would.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.overtaken = true;
            change(&mut state.world)
        };
        self.0.changed.notify_one();
        result
    }

    /// Adds a link that is up, and returns its index. An existing link of that name stays.
    ///
    /// # Panics
    /// If the name is not an interface name.
    #[allow(clippy::expect_used)] // called by tests
    pub fn add_link(&self, name: &str, alias: Option<&str>) -> u32 {
        let name = name.parse().expect("an interface name");
        let alias = alias.map(str::to_owned);
        let link = Link {
            index: 0,
            mac: None,
            alias,
            up: true,
            running: true,
            controller: None,
            kind: LinkKind::Other,
        };
        self.change(|world| world.add_link(name, link))
    }

    /// Removes a link by name.
    pub fn remove_link(&self, name: &str) {
        if let Ok(name) = name.parse() {
            self.change(|world| world.remove_link(&name));
        }
    }

    /// Refuses, once, the change that follows `skip` others.
    pub fn refuse(&self, skip: u64, errno: i32) {
        let mut state = self.lock();
        let at = state.asked + skip;
        state.refusals.insert(at, errno);
    }

    /// Refuses all changes; `None` accepts them again.
    pub fn refuse_all(&self, errno: Option<i32>) {
        self.lock().refuse_all = errno;
    }

    /// Refuses all dumps; `None` accepts them again.
    pub fn refuse_dumps(&self, errno: Option<i32>) {
        self.lock().dump_errno = errno;
    }

    /// Sets the sysctls whose values are wrong. As in Linux, this is not reported.
    pub fn set_wrong_sysctls(&self, wrong: Vec<WrongSysctl>) {
        self.lock().wrong_sysctls = wrong;
    }

    /// Makes a neighbour fall silent, or answer again.
    pub fn set_silent(&self, address: IpAddr, silent: bool) {
        let silent_ones = &mut self.lock().silent;
        _ = if silent { silent_ones.insert(address) } else { silent_ones.remove(&address) };
    }

    /// Sets the MAC address with which a neighbour answers.
    pub fn set_mac(&self, address: IpAddr, mac: Mac) {
        self.lock().macs.insert(address, mac);
    }

    /// Empties the neighbour table.
    pub fn forget_neighbours(&self) {
        self.lock().asked_for.clear();
    }

    /// Refuses the socket for announcements, as Linux does without NET_RAW.
    pub fn forbid_announcements(&self) {
        self.lock().without_announcements = true;
    }

    /// Refuses the socket for probes.
    pub fn forbid_neighbours(&self) {
        self.lock().without_neighbours = true;
    }

    /// Announcements made so far, in order.
    pub fn announced(&self) -> Vec<(IpAddr, Mac)> {
        self.lock().announced.clone()
    }

    /// The state that a dump returns.
    pub fn observed(&self, ours: &Ours) -> Observed {
        self.lock().world.observed(ours)
    }

    /// Changes made so far by the reconciler, in order.
    pub fn made(&self) -> Vec<Op> {
        self.lock().made.clone()
    }

    /// Takes the changes made since the last call, in order.
    pub fn take_made(&self) -> Vec<Op> {
        std::mem::take(&mut self.lock().made)
    }

    /// Number of changes that the reconciler has requested so far.
    pub fn asked(&self) -> u64 {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn neighbour(&self, address: IpAddr) -> Neighbour {
        match (self.asked_for.contains(&address), self.silent.contains(&address)) {
            (false, _) => Neighbour::unknown(),
            (true, true) => Neighbour { sight: Sight::Asked, ..Neighbour::unknown() },
            (true, false) => {
                let mac =
                    self.macs.get(&address).copied().unwrap_or_else(|| Mac::derive(&[&address.to_string()]));
                Neighbour { sight: Sight::Answered, mac: Some(mac), answered_ago: Some(ANSWERED_AGO) }
            }
        }
    }

    fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        let injected = self.refusals.remove(&self.asked).or(self.refuse_all);
        self.asked += 1;
        match injected.map_or_else(|| self.world.apply(ours, op), Err) {
            Err(errno) if !in_effect(op, errno) => Err(Refusal::errno(errno)),
            _ => {
                if let Op::ForgetNeighbour(address) = op {
                    self.asked_for.remove(address);
                }
                self.made.push(op.clone());
                Ok(())
            }
        }
    }
}

impl Backend for Memory {
    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        let mut state = self.lock();
        state.overtaken = false;
        state.dump_errno.map_or_else(|| Ok(state.world.observed(ours)), |errno| Err(Refusal::errno(errno)))
    }

    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        self.lock().apply(ours, op)
    }

    fn wrong_sysctls(&mut self, _ours: &Ours, families: &[Family]) -> Vec<WrongSysctl> {
        let state = self.lock();
        state.wrong_sysctls.iter().filter(|wrong| families.contains(&wrong.family)).cloned().collect()
    }

    fn neighbours(&mut self, _settings: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>> {
        if self.lock().without_neighbours {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Box::new(self.clone()))
    }

    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>> {
        if self.lock().without_announcements {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Box::new(self.clone()))
    }

    async fn changed(&mut self, _ours: &Ours) {
        self.0.changed.notified().await;
    }

    fn overtaken(&mut self, _ours: &Ours) -> bool {
        self.lock().overtaken
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Neighbours for Memory {
    fn prepare(&mut self, _ours: &Ours) -> Result<(), Refusal> {
        Ok(())
    }

    fn look(&mut self, _ours: &Ours, addresses: &[IpAddr]) -> Result<Vec<Neighbour>, Refusal> {
        let state = self.lock();
        Ok(addresses.iter().map(|address| state.neighbour(*address)).collect())
    }

    fn ask(&mut self, addresses: &[(IpAddr, Sight)]) -> Result<(), Refusal> {
        self.lock().asked_for.extend(addresses.iter().map(|(address, _)| *address));
        Ok(())
    }
}

impl Announcements for Memory {
    fn announce(&mut self, _ours: &Ours, address: IpAddr, mac: Mac) -> io::Result<()> {
        self.lock().announced.push((address, mac));
        Ok(())
    }
}
