// SPDX-License-Identifier: Apache-2.0

//! Closes a connection whose caller does not refresh it (NSM `timeout`).
//!
//! The path segment before ours has the expiry of the caller's token. A timer closes the connection
//! before that, so that the Close is still authorized at the hops behind us:
//! 1. The segment before ours must have an expiry.
//! 2. The timer fires before the expiry, by the time that the call has left until its deadline.
//! 3. But not before half of the remaining lifetime: callers refresh well before that, also with
//!    short-lived certificates.
//! 4. A token that has already expired fires at once, and no timer is longer than two days,
//!    regardless of the caller's expiry.
//!
//! Without a segment before ours the connection starts here, and there is no timer.
//!
//! # State
//! The timer, replaced by each Request that succeeds.
//!
//! # Close
//! The timer is stopped before the Close is passed on. `begin` retries a Close that fails.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::{
    api::Connection,
    chain::{Close, Element, EventKind, Next, Order, Reason, Request, Result},
    task::Task,
};

/// Longest time (rule 4). Token lifetimes are usually ten minutes; some deployments use a day.
const MAX_DELAY: Duration = Duration::from_secs(48 * 3600);

/// Element that closes on the caller's expiry.
///
/// ```
/// use nsm::{
///     chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
///     elements::timeout::Timeout,
///     task::Tasks,
/// };
///
/// # fn main() -> Result<(), nsm::chain::InvalidChain> {
/// let begin = BeginLayer::endpoint(Tasks::default());
/// Chain::new().with(begin).with(MetadataLayer).with(Timeout).build()?;
/// assert!(Chain::new().with(Timeout).build().is_err(), "its timer is state of the connection");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeout;

struct Timer(#[expect(dead_code, reason = "a guard")] Task);

/// Rules 2 to 4: time until the timer fires.
fn fires_in(expires: SystemTime, left: Duration, now: SystemTime) -> Duration {
    let lives = expires.duration_since(now).unwrap_or_default();
    lives.saturating_sub(left).max(lives / 2).min(MAX_DELAY)
}

/// Rule 1: expiry of the segment before ours; none if there is no such segment.
fn callers_expiry(connection: &Connection) -> Result<Option<SystemTime>> {
    let Some(previous) = connection.previous_segment() else {
        return Ok(None);
    };
    match previous.expires_at() {
        Some(expires) => Ok(Some(expires)),
        None => {
            let text = format!("path segment `{}` before ours has no expiry", previous.name);
            Err(Reason::Invalid(text).into())
        }
    }
}

impl Element for Timeout {
    const NAME: &'static str = "timeout";
    const ORDER: Order = Order::STATE.after(&["update_token"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let expires = callers_expiry(&request.connection)?;
        let left = request.context.left();
        let connection = next.request(request).await?;
        if let Some(expires) = expires {
            let fires = fires_in(expires, left, SystemTime::now());
            let id = connection.id.clone();
            let client = connection.client_id().to_owned();
            scope.insert(Timer(events.spawn(move |events| async move {
                sleep(fires).await;
                tracing::info!(id, client, "the caller did not refresh in time: closing");
                if let Err(error) = events.close(EventKind::Timeout).await {
                    tracing::warn!(%error, "the Close after the timeout failed");
                }
            })));
        }
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Timer>());
    }
}

#[cfg(test)]
mod tests {
    use tower_layer::Layer;

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;
    use crate::{
        chain::{Call, Chain, Error, begin::BeginLayer, laws, metadata::MetadataLayer},
        task::Tasks,
        testing::{self, Given},
    };

    #[test]
    fn it_fires_by_the_table() {
        let now = SystemTime::now();
        // lifetime left of the caller's token, deadline of the call, time until the timer fires;
        // seconds
        for (rule, lives, left, fires) in [
            ("2 ten minutes", 600, 15, 585),
            ("2 one minute", 60, 15, 45),
            ("3 short", 20, 15, 10),
            ("3 shorter than the deadline", 10, 15, 5),
            ("4 expired", 0, 15, 0),
            ("4 never expires", 1 << 36, 15, 172_800),
        ] {
            let s = Duration::from_secs;
            assert_eq!(fires_in(now + s(lives), s(left), now), s(fires), "{rule}");
        }
        assert_eq!(fires_in(now - Duration::from_secs(9), Duration::ZERO, now), Duration::ZERO, "4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_refreshes_is_not_closed_and_one_that_stops_is() {
        let closes = Arc::new(AtomicUsize::new(0));
        let tasks = Tasks::default();
        let counted = Arc::clone(&closes);
        let end = tower::service_fn(move |call: Call| {
            counted.fetch_add(usize::from(matches!(call, Call::Close(_))), SeqCst);
            async move { Ok::<_, Error>(call.into_connection()) }
        });
        let chain = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer).with(Timeout);
        let chain = chain.end(end).build().unwrap();
        let request = || {
            let mut connection = Connection::named("a");
            testing::path(&mut connection, 1, &[Some(60), None]);
            Request::new(connection)
        };
        for _refresh in 0..4 {
            chain.request(request()).await.unwrap();
            sleep(Duration::from_secs(40)).await;
            assert_eq!(closes.load(SeqCst), 0);
        }
        sleep(Duration::from_secs(6)).await;
        assert_eq!((closes.load(SeqCst), tasks.len()), (1, 0));
    }

    #[tokio::test]
    async fn a_path_without_the_callers_expiry_is_refused_at_once() {
        let end =
            tower::service_fn(async |_: Call| -> Result<Box<Connection>> { panic!("must not be called") });
        let mut connection = Connection::named("a");
        testing::path(&mut connection, 1, &[None, None]);
        let error = Timeout.layer().layer(end).request(Request::new(connection)).await.unwrap_err();
        assert_eq!(error.to_string(), "timeout: path segment `hop0` before ours has no expiry");
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| {
            Given(Timeout, |c: &mut Connection, _: &mut _| testing::path(c, 1, &[Some(60), None]))
        })
        .await
        .unwrap();
    }
}
