// SPDX-License-Identifier: Apache-2.0
//! Claim the descriptors that a caller's mechanisms name, and send the answer's one back (NSM `recvfd` and `sendfd`).
//!
//! # State
//! The descriptors of the connection, so that a refresh may name them without sending them again.

use std::{collections::HashMap, os::fd::OwnedFd, sync::Arc};

use crate::{
    api::{Connection, Inode, Mechanism},
    chain::{Element, Next, Order, Reason, Request, Result},
    transport::Caller,
};

/// Element that claims descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecvFd;

/// Descriptors of a connection, by what they are.
#[derive(Clone, Debug, Default)]
pub struct Descriptors(HashMap<Inode, Arc<OwnedFd>>);

impl Descriptors {
    /// The descriptor of an inode.
    pub fn get(&self, inode: Inode) -> Option<Arc<OwnedFd>> {
        self.0.get(&inode).cloned()
    }

    /// These and one more.
    #[must_use]
    pub fn with(&self, inode: Inode, descriptor: Arc<OwnedFd>) -> Self {
        let mut all = self.0.clone();
        all.insert(inode, descriptor);
        Self(all)
    }
}

/// The inodes that a connection and preferences name.
pub(super) fn named(connection: &Connection, preferences: &[Mechanism]) -> Vec<Inode> {
    let mut inodes: Vec<_> =
        preferences.iter().chain(&connection.mechanism).filter_map(Mechanism::inode).collect();
    inodes.sort();
    inodes.dedup();
    inodes
}

impl Element for RecvFd {
    const NAME: &'static str = "recv_fd";
    const ORDER: Order = Order { after: &["metadata"], before: &["find", "veth", "relay"] };

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let hub = request.context.extensions.get::<Caller>().and_then(|caller| caller.hub.clone());
        let before = scope.get::<Descriptors>().unwrap_or_default();
        let mut now = Descriptors::default();
        for inode in named(&request.connection, &request.preferences) {
            let descriptor = match (before.get(inode), &hub) {
                (Some(known), _) => Some(known),
                (None, Some(hub)) => hub.take(inode, request.context.deadline).await.map(Arc::new),
                (None, None) => None,
            };
            let missing = || Reason::Unavailable(format!("timeout in recvfd waiting for {inode}"));
            now.0.insert(inode, descriptor.ok_or_else(missing)?);
        }
        scope.insert(now.clone());
        let answer = next.request(request).await?;
        let own = answer.mechanism.as_ref().and_then(Mechanism::inode).and_then(|inode| now.get(inode));
        if let (Some(descriptor), Some(hub)) = (own, hub) {
            // It is the caller's own, which knows it: not worth failing the Request.
            let _ = hub.send(descriptor);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{MechanismKind, parameter},
        chain::laws,
    };

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| RecvFd).await.unwrap();
    }

    #[test]
    fn an_inode_that_is_named_twice_is_one() {
        let named_as = |url: &str| {
            let mut mechanism = Mechanism::local(MechanismKind::Kernel);
            mechanism.parameters.insert(parameter::INODE_URL.into(), url.into());
            mechanism
        };
        let mut connection = *Connection::named("a");
        connection.mechanism = Some(named_as("inode://4/7"));
        let preferences =
            [named_as("inode://4/7"), named_as("inode://4/9"), Mechanism::local(MechanismKind::Noop)];
        let inodes = named(&connection, &preferences);
        assert_eq!(inodes, [Inode { dev: 4, ino: 7 }, Inode { dev: 4, ino: 9 }]);
    }
}
