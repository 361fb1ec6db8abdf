// SPDX-License-Identifier: Apache-2.0
//! Rows of our chains that record the received descriptors, and refuse a call whose descriptor did
//! not arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nsm::{
    api::{Connection, Inode, Mechanism},
    chain::{CallContext, Element, Next, Reason, Request, Result},
    transport::{Caller, FdHub, Wire},
};
use tokio::time::Instant;

/// An answer that a client chain received.
pub(crate) struct Answer {
    pub(crate) connection: Box<Connection>,
    /// Inode number of the namespace whose descriptor came with it.
    pub(crate) netns: u64,
}

/// Row of a client chain: the answers.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<Mutex<Vec<Answer>>>);

/// Row of an endpoint chain: the inode numbers of the callers' namespaces whose descriptors
/// arrived, one for each Request that names one.
#[derive(Clone, Default)]
pub(crate) struct Arrived(Arc<Mutex<Vec<u64>>>);

impl Received {
    pub(crate) fn answers(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrived {
    pub(crate) fn namespaces(&self) -> MutexGuard<'_, Vec<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Element for Received {
    const NAME: &'static str = "received";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let CallContext { scope, deadline, .. } = request.context.clone();
        let answer = next.request(request).await?;
        let named = answer.mechanism.as_ref().and_then(Mechanism::inode);
        let named = named.ok_or_else(|| Reason::Refused("an answer that names no namespace".into()))?;
        let wire = scope.get::<Wire>();
        claim(wire.as_ref().and_then(|wire| wire.hub()), named, deadline).await?;
        self.answers().push(Answer { connection: answer.clone(), netns: named.ino });
        Ok(answer)
    }
}

impl Element for Arrived {
    const NAME: &'static str = "arrived";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        if let Some(named) = request.preferences.iter().find_map(Mechanism::inode) {
            let caller = request.context.extensions.get::<Caller>();
            claim(caller.and_then(|caller| caller.hub.as_ref()), named, request.context.deadline).await?;
            self.namespaces().push(named.ino);
        }
        next.request(request).await
    }
}

/// The descriptor must come over the connection of the call.
async fn claim(hub: Option<&Arc<FdHub>>, named: Inode, deadline: Instant) -> Result<()> {
    let hub = hub.ok_or_else(|| Reason::Refused("no connection that passes descriptors".into()))?;
    match hub.take(named, deadline).await {
        Some(_closed_here) => Ok(()),
        None => Err(Reason::Refused(format!("the descriptor of {named} did not come")).into()),
    }
}
