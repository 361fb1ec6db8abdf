// SPDX-License-Identifier: Apache-2.0

//! Own and peer identities: X.509-SVIDs from the SPIFFE Workload API.
//!
//! [`Identity`] follows the Workload API and holds the newest [`Svid`]. An `Svid` never changes:
//! the TLS configurations of one connection and the signatures of the tokens sent over it come from
//! the same one, because peers verify the tokens with the certificate of the connection. After a
//! rotation old connections keep their SVID and new ones get the new SVID. Sessions are never
//! resumed, because a resumed session has the certificate of an earlier one.
//!
//! # Errors
//! An SVID that is expired, not of its trust domain's bundle, without a P-256 key, or malformed is
//! refused ([`RefusedSvid`]); the previous one stays in use until it expires.

mod peer;
mod state;
mod svid;
#[cfg(test)]
mod tests;
mod trust;
mod verifier;
mod watcher;

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

pub use self::{
    peer::{InvalidLeaf, Peer},
    state::{IdentityState, NoIdentity, SvidError},
    svid::{RefusedSvid, Svid},
    trust::Unverified,
};
pub(crate) use self::{svid::ALPN, verifier::Verdict};
use crate::task::Tasks;

/// Our identity from the Workload API. Clones share it.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{task::Tasks, testing::{Authority, Workload}, transport::Identity};
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let authority = Authority::new("example.org");
/// let workload = Workload::listen(folder.path().join("agent.sock"))?; // in a cluster SPIRE's agent
/// workload.grant(authority.leaf("web"));
///
/// let tasks = Tasks::default();
/// let identity = Identity::follow(&workload.url(), &tasks);
/// let svid = identity.ready(Instant::now() + Duration::from_secs(10)).await?;
/// assert_eq!(svid.id(), "spiffe://example.org/web");
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Identity {
    state: watch::Receiver<IdentityState>,
}

impl Identity {
    /// Follows the Workload API at `socket` (`unix:///path`) in a task of `tasks`.
    pub fn follow(socket: &str, tasks: &Tasks) -> Self {
        let (known, state) = watch::channel(IdentityState::default());
        tasks.spawn(watcher::Watcher::new(socket, known).run());
        Self::of(state)
    }

    /// An identity that does not change, for programs without a Workload API.
    pub fn fixed(svid: Arc<Svid>) -> Self {
        Self::of(watch::channel(IdentityState { svid: Some(svid), error: None }).1)
    }

    /// An identity that another task updates.
    pub(crate) fn of(state: watch::Receiver<IdentityState>) -> Self {
        Self { state }
    }

    /// The SVID for a new connection; `None` while there is no valid one.
    pub fn current(&self) -> Option<Arc<Svid>> {
        self.state.borrow().valid()
    }

    /// Waits for a valid SVID.
    ///
    /// # Errors
    /// [`NoIdentity`] at the deadline, with the last result of the Workload API.
    pub async fn ready(&self, deadline: Instant) -> Result<Arc<Svid>, NoIdentity> {
        if let Some(svid) = self.current() {
            return Ok(svid);
        }
        let mut state = self.state.clone();
        match timeout_at(deadline, state.wait_for(|state| state.valid().is_some())).await {
            Ok(Ok(state)) => state.valid().ok_or(NoIdentity::Waiting(SvidError::Expired)),
            Ok(Err(_stopped)) => Err(NoIdentity::Stopped),
            Err(_elapsed) => {
                Err(self.state.borrow().error.clone().map_or(NoIdentity::Unanswered, NoIdentity::Waiting))
            }
        }
    }

    /// Every change of the state: rotations, errors and their end.
    pub fn subscribe(&self) -> watch::Receiver<IdentityState> {
        self.state.clone()
    }
}
