// SPDX-License-Identifier: Apache-2.0

//! Dials until the peer is available, or the deadline.
//!
//! An attempt at a socket that is missing or refuses costs a system call on this machine, and all
//! connections wait for a restarted nsmgr, so it is repeated within 250 ms. Attempts that get
//! further are up to 1 s apart.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::DialError;
use crate::{
    chain::causes,
    task::Backoff,
    transport::{Address, Identity, Wire},
};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause while a socket of this machine is missing or refuses.
const LONGEST_PAUSE_ABSENT: Duration = Duration::from_millis(200);

/// The address and settings of one peer. A restarted nsmgr removes its socket and makes a new one:
/// a dial waits for it.
///
/// ```
/// use nsm::{chain::Chain, testing, transport::Dialer};
/// use tokio::time::{Duration, Instant};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = testing::serve(Chain::new().build()?).await;
/// let dialer: Dialer = peer.dialer.clone();
/// let wire = dialer.dial(Instant::now() + Duration::from_secs(10)).await?;
/// assert_eq!(wire.peer().id(), "spiffe://test.domain/peer");
///
/// drop(peer);
/// let gone = dialer.dial(Instant::now() + Duration::from_millis(100)).await;
/// assert!(gone.is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Address of the peer.
    pub address: Address,
    /// Our identity; each attempt uses the SVID of that moment.
    pub identity: Identity,
    /// Timeout of one attempt.
    pub dial_timeout: Duration,
    /// Lifetime of the tokens of calls to this peer; for [`Wire::call`].
    pub token_lifetime: Duration,
}

impl Dialer {
    /// Connects to the peer. Waits for an identity, and retries while the peer's socket is missing,
    /// refuses or breaks.
    ///
    /// # Errors
    /// [`DialError`] at once if another attempt would not help; otherwise when none would be made
    /// before the deadline, with the last attempt's error.
    pub async fn dial(&self, deadline: Instant) -> Result<Wire, DialError> {
        let mut absent = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE_ABSENT);
        let mut failing = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let svid = self.identity.ready(deadline).await?;
            let attempt = deadline.min(Instant::now() + self.dial_timeout);
            let error = match Wire::dial(&self.address, svid, attempt).await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            debug!(error = causes(&error), "dial failed");
            let pause = match &error {
                DialError::Connect { address: Address::Unix(_), .. } => absent.delay(),
                _ => failing.delay(),
            };
            if Instant::now() + pause >= deadline {
                return Err(DialError::Deadline {
                    address: self.address.clone(),
                    last: Some(Box::new(error)),
                });
            }
            sleep(pause).await;
        }
    }
}
