// SPDX-License-Identifier: Apache-2.0

//! Makes a channel's connection, and makes it again whenever it ends.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{ChannelSettings, Link};
use crate::{
    chain::causes,
    task::Backoff,
    transport::{Address, Identity, Wire, wire::Ended},
};

/// Longest interval of pings: every server accepts one an hour.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(3600);
/// First delay between attempts.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Time after which a connection counts as up, if others before it failed.
const PROVEN: Duration = Duration::from_secs(1);

/// The task of a channel. The connection goes with it.
pub(super) struct Worker {
    address: Arc<Address>,
    identity: Identity,
    settings: ChannelSettings,
    link: watch::Sender<Link>,
    keepalive: Duration,
    backoff: Backoff,
    /// The last failure, until a connection is proven.
    error: Option<String>,
}

impl Worker {
    pub(super) fn new(
        address: Arc<Address>,
        identity: Identity,
        settings: ChannelSettings,
        link: watch::Sender<Link>,
    ) -> Self {
        let backoff = Backoff::new(FIRST_DELAY, settings.max_backoff);
        Self { address, identity, settings, link, keepalive: settings.keepalive, backoff, error: None }
    }

    /// Dials, waits for the end, and dials again. Does not return.
    pub(super) async fn run(mut self) {
        loop {
            let error = match self.dial().await {
                Ok(wire) => match self.keep(wire).await {
                    Ok(()) => {
                        self.remakes();
                        continue;
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.failed(error);
            sleep(self.backoff.delay()).await;
        }
    }

    async fn dial(&self) -> Result<Wire, String> {
        let deadline = Instant::now() + self.settings.dial_timeout;
        let svid = self.identity.ready(deadline).await.map_err(|error| causes(&error))?;
        let dialled = Wire::dial_pinging(&self.address, svid, deadline, Some(self.keepalive)).await;
        dialled.map_err(|error| causes(&error))
    }

    /// Publishes a connection until it ends.
    ///
    /// # Errors
    /// It did not last, so that the next one should wait.
    async fn keep(&mut self, wire: Wire) -> Result<(), String> {
        match &self.error {
            None => self.is_up(&wire),
            Some(error) => {
                debug!(address = %self.address, "connected");
                self.link.send_replace(Link::unproven(wire.clone(), error.clone(), self.keepalive));
            }
        }
        let since = Instant::now();
        let early = timeout(self.settings.max_backoff.min(PROVEN), wire.closed()).await;
        let ended = match early {
            Ok(ended) => ended,
            Err(_proven) => {
                if self.error.take().is_some() {
                    self.is_up(&wire);
                }
                wire.closed().await
            }
        };
        let held = since.elapsed() >= self.settings.max_backoff;
        if held {
            self.backoff.reset();
        }
        match ended {
            Ended::TooManyPings if self.ping_less() => Ok(()),
            ended if held => {
                info!(address = %self.address, ?ended, "the connection has ended, it is made again");
                Ok(())
            }
            Ended::Broken(error) => Err(format!("the connection does not hold: {error}")),
            ended => Err(format!("the connection does not hold: the server ends it ({ended:?})")),
        }
    }

    fn is_up(&self, wire: &Wire) {
        info!(address = %self.address, peer = wire.peer().id(), "connected");
        self.link.send_replace(Link::up(wire.clone(), self.keepalive));
    }

    fn remakes(&self) {
        self.link.send_replace(match &self.error {
            None => Link::remaking(self.keepalive),
            Some(error) => Link::down(error.clone(), self.keepalive),
        });
    }

    /// Doubles the interval of pings; returns false if it is the longest already.
    fn ping_less(&mut self) -> bool {
        let before = self.keepalive;
        self.keepalive = (before * 2).min(LONGEST_KEEPALIVE).max(before);
        if self.keepalive > before {
            warn!(address = %self.address, ?before, now = ?self.keepalive, "the server is pinged less often");
        }
        self.keepalive > before
    }

    /// Publishes a failure, and logs it once for as long as it lasts.
    fn failed(&mut self, error: String) {
        match self.error.as_ref() == Some(&error) {
            true => debug!(address = %self.address, error, "still not connected"),
            false => warn!(address = %self.address, error, "not connected"),
        }
        self.link.send_replace(Link::down(error.clone(), self.keepalive));
        self.error = Some(error);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.link.send_replace(Link::down("this process is shutting down".into(), self.keepalive));
    }
}
