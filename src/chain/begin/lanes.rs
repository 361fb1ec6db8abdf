// SPDX-License-Identifier: Apache-2.0

//! The map from connection id to lane. A lane is created by the first Request and removed when its
//! connection is gone.
//!
//! A lane belongs to the [`Owner`] of the Request that created it. Calls of another owner are
//! denied before they reach it: they neither change the connection nor take a place in its queue.
//!
//! Lock order: the map first, then a mailbox. Neither is held across an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    chain::{
        Call, Next, Owner, Reason, Result,
        begin::{
            Mode,
            lane::Lane,
            mailbox::{Job, Mailbox, Work},
        },
    },
    task::Tasks,
};

/// Maximum number of connections per chain.
pub(crate) const LANES: usize = 4096;

/// Lanes of one chain.
pub(crate) struct Lanes {
    pub(crate) next: Next,
    pub(crate) mode: Mode,
    tasks: Tasks,
    map: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    mailbox: Arc<Mailbox>,
    owner: Option<Owner>,
}

impl Lanes {
    pub(crate) fn new(next: Next, mode: Mode, tasks: Tasks) -> Arc<Self> {
        Arc::new(Self { next, mode, tasks, map: Mutex::default() })
    }

    /// Queues a caller's job in the lane of `id`. Closing an unknown connection succeeds
    /// immediately.
    pub(crate) fn offer(self: &Arc<Self>, id: &str, owner: Option<Owner>, job: Job) -> Result<()> {
        let mut map = self.lock();
        if let Some(lane) = map.get(id) {
            lane.admit(owner.as_ref())?;
            return lane.mailbox.push(job);
        }
        let job = match job.work {
            Work::Call(Call::Close(close)) => {
                let _left = job.reply.send(Ok(close.connection));
                return Ok(());
            }
            _ if map.len() >= LANES => {
                let text = format!("{LANES} connections are open already (at most {LANES})");
                return Err(Reason::Exhausted(text).into());
            }
            _ => job,
        };
        let mailbox = Mailbox::new(self.tasks.clone());
        mailbox.push(job)?;
        map.insert(id.to_owned(), Entry { mailbox: Arc::clone(&mailbox), owner });
        drop(map); // a runtime that has stopped drops the lane at once, and that removes itself
        let lane = Lane::new(id.to_owned(), mailbox, Arc::clone(self));
        self.tasks.spawn(lane.run());
        Ok(())
    }

    /// Removes a lane if its queue is empty; returns whether it was removed.
    pub(crate) fn retire(&self, id: &str, mailbox: &Arc<Mailbox>) -> bool {
        let mut map = self.lock();
        let empty = mailbox.end_if_empty();
        if empty {
            remove(&mut map, id, mailbox);
        }
        empty
    }

    /// Removes a lane and rejects its queued jobs.
    pub(crate) fn remove(&self, id: &str, mailbox: &Arc<Mailbox>) {
        remove(&mut self.lock(), id, mailbox);
        mailbox.end();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Denies a caller that is not the owner, naming both.
    fn admit(&self, caller: Option<&Owner>) -> Result<()> {
        if self.owner.as_ref() == caller {
            return Ok(());
        }
        let id = |owner: Option<&Owner>| owner.map_or("this process", Owner::id).to_owned();
        let owner = id(self.owner.as_ref());
        let caller = id(caller);
        Err(Reason::Denied(format!("the connection belongs to `{owner}`, the caller is `{caller}`")).into())
    }
}

/// Removes only this lane, not a newer one with the same id.
fn remove(map: &mut HashMap<String, Entry>, id: &str, mailbox: &Arc<Mailbox>) {
    if map.get(id).is_some_and(|there| Arc::ptr_eq(&there.mailbox, mailbox)) {
        map.remove(id);
    }
}
