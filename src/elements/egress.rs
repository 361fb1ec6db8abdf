// SPDX-License-Identifier: Apache-2.0

//! Counts the connections that carry traffic out (Meridio's `Egress` health).
//!
//! A connection counts from the success of a Request until its Close begins. The kernel reports
//! whether its next hop is installed; a proxy is ready when both are true.
//!
//! # Order
//! Above `source_route` and `bridge`: a connection counts only when its port and next hop are
//! declared, and a Close takes it out of the count before they are withdrawn.
//!
//! # Close
//! The connection stops counting before the Close is passed on, even if the Close then fails.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    api::Connection,
    chain::{Close, Element, Next, Order, Request, Result},
};

/// Element that counts, and the handle to the count. Clones share it.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Close, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::egress::Egress,
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let egress = Egress::default();
/// let chain = Chain::new()
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(egress.clone())
///     .build()?;
/// chain.request(Request::new(Connection::named("lb-1"))).await?;
/// assert_eq!(egress.count(), 1);
/// chain.close(Close::new(Connection::named("lb-1"))).await?;
/// assert_eq!(egress.count(), 0);
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Egress(Arc<watch::Sender<usize>>);

/// One counted connection.
struct Counted(Egress);

impl Default for Egress {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Egress {
    /// Number of connections that carry traffic now.
    pub fn count(&self) -> usize {
        *self.0.borrow()
    }

    /// The present number, and its changes.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    fn counted(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl Element for Egress {
    const NAME: &'static str = "egress";
    const ORDER: Order = Order::STATE.before(&["source_route", "bridge"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let connection = next.request(request).await?;
        if scope.get::<Counted>().is_none() {
            scope.insert(self.counted());
        }
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Counted>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{Call, Chain, Error, Reason, begin::BeginLayer, laws, metadata::MetadataLayer},
        task::Tasks,
    };

    #[tokio::test(start_paused = true)]
    async fn b25_a_connection_counts_from_its_request_until_its_close() {
        let egress = Egress::default();
        let tasks = Tasks::default();
        let seen = egress.clone();
        let end = tower::service_fn(move |call: Call| {
            let closing = matches!(call, Call::Close(_));
            let count = seen.count();
            async move {
                match (closing, count) {
                    (true, 0) => Err(Error::from(Reason::Refused("the peer is gone".into()))),
                    (true, count) => panic!("{count} still count while closing"),
                    (false, _) => Ok(call.into_connection()),
                }
            }
        });
        let chain =
            Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer).with(egress.clone());
        let chain = chain.end(end).build().unwrap();
        for _refresh in 0..3 {
            chain.request(Request::new(Connection::named("lb-1"))).await.unwrap();
            assert_eq!(egress.count(), 1);
        }
        let failed = chain.close(Close::new(Connection::named("lb-1"))).await;
        assert!(failed.is_err());
        assert_eq!(egress.count(), 0, "also when the Close fails");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let egress = Egress::default();
        laws::check_with(|| egress.clone(), || egress.count()).await.unwrap();
    }
}
