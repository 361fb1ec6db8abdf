// SPDX-License-Identifier: Apache-2.0

//! Keep a connection to a server that is called again and again: IPAM and NSP.
//!
//! A task dials, waits until the connection ends, and dials again with a growing delay; each connection shows the SVID of that
//! moment. [`Link`] says at any time whether there is a connection and what failed last.
//!
//! # Known limits
//! A connection without open calls is not probed, so that a server which vanished without a word is noticed by the next call.

#[cfg(test)]
mod tests;

use std::{sync::Arc, task::Poll, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::{Status, body::Body};
use tower::{BoxError, Service};
use tracing::{info, warn};

use super::{Backoff, Identity, Target, Wire, causes};
use crate::chain::Tasks;

/// How a channel keeps its connection.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSettings {
    /// Interval of pings while calls or streams are open.
    pub keepalive: Duration,
    /// How long one attempt to connect may take.
    pub dial_timeout: Duration,
    /// Longest delay between attempts.
    pub max_backoff: Duration,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(5),
            max_backoff: Duration::from_secs(5),
        }
    }
}

/// A reconnecting gRPC channel over mTLS; it lies under generated clients. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Channel {
    target: Arc<Target>,
    link: watch::Receiver<Link>,
}

/// The connection of a channel at one moment.
#[derive(Clone, Debug, Default)]
pub struct Link {
    wire: Option<Wire>,
    error: Option<String>,
}

impl Link {
    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.wire.as_ref().is_some_and(|wire| !wire.is_closed())
    }

    /// What failed last, until there is a connection.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl Channel {
    /// Connect to `target` in a task of `tasks`, now and whenever the connection ends.
    pub fn open(target: Target, identity: Identity, settings: ChannelSettings, tasks: &Tasks) -> Self {
        let target = Arc::new(target);
        let (publish, link) = watch::channel(Link::default());
        tasks.spawn(Keeper { target: Arc::clone(&target), identity, settings, link: publish }.run());
        Self { target, link }
    }

    /// Where the server is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Every change of the connection.
    pub fn subscribe(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }
}

/// The task of a channel. The connection goes with it.
struct Keeper {
    target: Arc<Target>,
    identity: Identity,
    settings: ChannelSettings,
    link: watch::Sender<Link>,
}

impl Keeper {
    /// Dial, wait for the end, dial again; for ever.
    async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), self.settings.max_backoff);
        loop {
            let error = match self.dial().await {
                Ok(wire) => {
                    info!(target = %self.target, peer = wire.peer().id(), "connected");
                    backoff.reset();
                    self.link.send_replace(Link { wire: Some(wire.clone()), error: None });
                    wire.closed().await;
                    "the connection has ended".to_owned()
                }
                Err(error) => error,
            };
            if self.link.borrow().error.as_ref() != Some(&error) {
                warn!(target = %self.target, error, "not connected");
            }
            self.link.send_replace(Link { wire: None, error: Some(error) });
            sleep(backoff.delay()).await;
        }
    }

    async fn dial(&self) -> Result<Wire, String> {
        let deadline = Instant::now() + self.settings.dial_timeout;
        let svid = self.identity.ready(deadline).await.map_err(|error| causes(&error))?;
        let keepalive = Some(self.settings.keepalive);
        Wire::dial_pinging(&self.target, svid, deadline, keepalive).await.map_err(|error| causes(&error))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.link.send_replace(Link { wire: None, error: Some("this process is shutting down".into()) });
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    /// Fails with `Unavailable` while there is no connection; waits only for the first attempt.
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (target, mut link) = (Arc::clone(&self.target), self.link.clone());
        Box::pin(async move {
            let tried = link.wait_for(|link| link.wire.is_some() || link.error.is_some()).await;
            let Link { wire, error } = tried.map(|link| link.clone()).unwrap_or_default();
            match wire {
                Some(mut wire) if !wire.is_closed() => Service::call(&mut wire, request).await,
                _ => {
                    let error = error.unwrap_or_else(|| "the connection has ended".into());
                    Err(Status::unavailable(format!("no connection to {target}: {error}")).into())
                }
            }
        })
    }
}
