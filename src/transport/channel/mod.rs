// SPDX-License-Identifier: Apache-2.0

//! A connection to a server that is called repeatedly: IPAM and NSP.
//!
//! A task dials, waits until the connection ends, and dials again; each connection uses the SVID of
//! that moment. [`Link`] is the state of the connection at any time.
//!
//! # Rules
//! 1. A connection that lasted for the longest delay between attempts is re-made at once when it
//!    ends. Meanwhile the link counts as up, and calls wait, until the first attempt fails.
//! 2. The delay between attempts grows until a connection has lasted. A server that accepts and
//!    closes is not up: after a failure, a connection counts as up when it is a second old.
//! 3. While calls or streams are open, the server is probed by pings. Each time that it refuses
//!    their frequency (gRPC's GOAWAY `too_many_pings`), their interval is doubled permanently.
//! 4. A connection without open calls is probed by TCP.

mod link;
#[cfg(test)]
mod tests;
mod worker;

use std::{sync::Arc, task::Poll, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::{Status, body::Body};
use tower::{BoxError, Service};

pub use self::link::Link;
use self::worker::Worker;
use super::{Address, Identity};
use crate::task::Tasks;

/// Settings of a channel's connection.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSettings {
    /// Interval of pings while calls or streams are open, until the server refuses it.
    pub keepalive: Duration,
    /// Timeout of one attempt to connect.
    pub dial_timeout: Duration,
    /// Longest delay between attempts, before jitter.
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

/// A reconnecting gRPC channel over mTLS, for use under generated clients. Clones share the
/// connection.
#[derive(Clone, Debug)]
pub struct Channel {
    address: Arc<Address>,
    link: watch::Receiver<Link>,
}

impl Channel {
    /// Connects to `address` in a task of `tasks`, now and whenever the connection ends.
    pub fn open(address: Address, identity: Identity, settings: ChannelSettings, tasks: &Tasks) -> Self {
        let address = Arc::new(address);
        let (publish, link) = watch::channel(Link::connecting(settings.keepalive));
        tasks.spawn(Worker::new(Arc::clone(&address), identity, settings, publish).run());
        Self { address, link }
    }

    /// Address of the server.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Subscribes to every change of the connection.
    pub fn subscribe(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    /// Waits while the first attempt, or the attempt to re-make the connection, is in progress.
    /// Fails with `Unavailable` while there is no connection.
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let address = Arc::clone(&self.address);
        let mut link = self.link.clone();
        Box::pin(async move {
            let settled = link.wait_for(Link::is_settled).await.map(|link| link.clone());
            let error = match settled {
                Ok(link) => match link.wire() {
                    Some(wire) => return Service::call(&mut wire.clone(), request).await,
                    None => link.error().unwrap_or("the connection has ended").to_owned(),
                },
                Err(_) => "this process is shutting down".into(),
            };
            Err(Status::unavailable(format!("no connection to {address}: {error}")).into())
        })
    }
}
