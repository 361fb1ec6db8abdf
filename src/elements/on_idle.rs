// SPDX-License-Identifier: Apache-2.0

//! Reports that an endpoint has had no connection for some time (NSM `onidle`).
//!
//! 1. The time counts from the start and from the end of the last connection.
//! 2. Once it has passed, Requests are refused: the endpoint ends.
//!
//! # State
//! A guard that counts the connection.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

use crate::{
    api::Connection,
    chain::{Element, Next, Order, Reason, Request, Result},
};

/// Element for an endpoint that ends when no client needs it.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::on_idle::OnIdle,
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let on_idle = OnIdle::new(Duration::from_secs(60));
/// let chain = Chain::new()
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(on_idle.clone())
///     .build()?;
///
/// on_idle.idle().await; // in a program beside `App::stopped`
/// assert!(chain.request(Request::new(Connection::named("a"))).await.is_err());
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct OnIdle {
    after: Duration,
    usage: watch::Sender<Usage>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    /// Number of connections.
    open: usize,
    /// Number of connections since the start.
    opened: u64,
    ended: bool,
}

/// Counts a connection until it is dropped.
struct Open(watch::Sender<Usage>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|usage| usage.open -= 1);
    }
}

impl OnIdle {
    /// Reports after this time without a connection. Clones count together.
    pub fn new(after: Duration) -> Self {
        Self { after, usage: watch::Sender::default() }
    }

    /// Waits until the time has passed without a connection. Requests are refused from then on.
    /// Cancel-safe.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        let Self { after, usage } = self.clone();
        async move {
            let mut changes = usage.subscribe();
            loop {
                let unused = changes.wait_for(|usage| usage.open == 0).await;
                let opened = unused.map_or(0, |usage| usage.opened);
                let used = changes.wait_for(|usage| usage.opened != opened);
                if timeout(after, used).await.is_err() && end(&usage) {
                    return;
                }
            }
        }
    }

    fn open(&self) -> Result<Open> {
        let counted = self.usage.send_if_modified(|usage| {
            usage.open += usize::from(!usage.ended);
            usage.opened += u64::from(!usage.ended);
            !usage.ended
        });
        match counted {
            true => Ok(Open(self.usage.clone())),
            false => {
                Err(Reason::Unavailable("the endpoint ends, because it had no connection".into()).into())
            }
        }
    }
}

/// Ends the use, unless a connection has just been opened.
fn end(usage: &watch::Sender<Usage>) -> bool {
    usage.send_if_modified(|usage| {
        usage.ended = usage.open == 0;
        usage.ended
    })
}

impl Element for OnIdle {
    const NAME: &'static str = "on_idle";
    const ORDER: Order = Order::STATE;

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        if scope.get::<Open>().is_none() {
            scope.insert(self.open()?);
        }
        next.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{
        chain::{Close, begin::BeginLayer, laws, metadata::MetadataLayer},
        task::Tasks,
    };

    const AFTER: Duration = Duration::from_secs(60);

    fn chain(on_idle: &OnIdle, tasks: &Tasks) -> Next {
        let rows = crate::chain::Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        rows.with(on_idle.clone()).build().unwrap()
    }

    fn request() -> Request {
        Request::new(Connection::named("a"))
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_some_time_after_the_last_connection() {
        let on_idle = OnIdle::new(AFTER);
        let tasks = Tasks::default();
        let chain = chain(&on_idle, &tasks);
        let start = Instant::now();
        let idle = tokio::spawn(on_idle.idle());
        sleep(AFTER / 2).await;
        chain.request(request()).await.unwrap();
        sleep(10 * AFTER).await;
        assert!(!idle.is_finished(), "it has a connection");
        chain.request(request()).await.unwrap();
        chain.close(Close::new(Connection::named("a"))).await.unwrap();
        sleep(AFTER / 2).await;
        assert!(!idle.is_finished(), "its last connection has just ended");
        idle.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30 + 600 + 60);
        let refused = chain.request(request()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_connection_counts_as_well() {
        let on_idle = OnIdle::new(AFTER);
        let tasks = Tasks::default();
        let chain = chain(&on_idle, &tasks);
        let start = Instant::now();
        let mut idle = std::pin::pin!(on_idle.idle());
        assert!(timeout(AFTER / 2, &mut idle).await.is_err());
        chain.request(request()).await.unwrap();
        chain.close(Close::new(Connection::named("a"))).await.unwrap();
        idle.await;
        assert_eq!(start.elapsed().as_secs(), 30 + 60);
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let on_idle = OnIdle::new(AFTER);
        laws::check_with(|| on_idle.clone(), || on_idle.usage.borrow().open).await.unwrap();
    }
}
