// SPDX-License-Identifier: Apache-2.0

//! Repeats a Request before a token of its path expires (NSM `refresh`).
//!
//! 1. The shortest expiry of all segments decides. A segment without one does not count; if none
//!    has one, ten minutes are assumed.
//! 2. A path of one segment is refreshed after a third of it, a longer one after 0.2 + 0.2 · index
//!    / length of it, so that hops do not refresh at the same time and the client does first.
//! 3. Up to a tenth earlier, at random, so that connections made together do not stay together.
//! 4. Never before a second has passed, also when a token has expired, and never later than a day.
//! 5. A refresh that failed is repeated after 200 ms, and after twice as long each further time, up
//!    to 5 s.
//!
//! # State
//! The timer, replaced by each Request that succeeds. A failed Request leaves the running one.
//!
//! # Close
//! The timer is stopped before the Close is passed on.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use crate::{
    api::Connection,
    chain::{Close, Element, EventKind, Events, Next, Order, Reason, Request, Result},
    task::{Backoff, Task},
};

/// Assumed lifetime if no segment has an expiry (rule 1).
const ASSUMED_LIFETIME: Duration = Duration::from_secs(600);
/// Bounds of the delay (rule 4).
const SHORTEST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);
/// Bounds of the pause after a failure (rule 5).
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Element that refreshes.
///
/// ```
/// use nsm::{
///     chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
///     elements::refresh::Refresh,
///     task::Tasks,
/// };
///
/// # fn main() -> Result<(), nsm::chain::InvalidChain> {
/// let begin = BeginLayer::client(Tasks::default());
/// Chain::new().with(begin).with(MetadataLayer).with(Refresh).build()?;
/// assert!(Chain::new().with(Refresh).build().is_err(), "its timer is state of the connection");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Refresh;

struct Timer(#[expect(dead_code, reason = "a guard")] Task);

/// Rules 1, 2 and 4; `earlier` is the share of rule 3, from 0 to 0.1.
fn delay(connection: &Connection, now: SystemTime, earlier: f64) -> Duration {
    let lives = connection
        .expires()
        .map_or(ASSUMED_LIFETIME, |expires| expires.duration_since(now).unwrap_or_default())
        .min(10 * LONGEST_DELAY);
    let index = connection.index();
    let len = connection.segments().len();
    let share = match len {
        0 | 1 => 1.0 / 3.0,
        _ => 0.2 + 0.2 * index.min(len) as f64 / len as f64,
    };
    lives.mul_f64(share * (1.0 - earlier)).clamp(SHORTEST_DELAY, LONGEST_DELAY)
}

async fn refresh(after: Duration, events: Events) {
    sleep(after).await;
    let mut pause = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while let Err(error) = events.request(EventKind::Refresh).await {
        if matches!(error.reason(), Reason::Ended) {
            return;
        }
        tracing::warn!(%error, "a refresh failed, trying again");
        sleep(pause.delay()).await;
    }
}

impl Element for Refresh {
    const NAME: &'static str = "refresh";
    const ORDER: Order = Order::STATE.before(&["heal", "mechanism"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let connection = next.request(request).await?;
        let after = delay(&connection, SystemTime::now(), rand::random_range(0.0..0.1));
        scope.insert(Timer(events.spawn(move |events| refresh(after, events))));
        Ok(connection)
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Timer>());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    };

    use super::*;
    use crate::{
        chain::{Call, Chain, Error, begin::BeginLayer, laws, metadata::MetadataLayer},
        task::Tasks,
        testing,
    };

    #[test]
    fn it_refreshes_by_the_table() {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        // rule, index, seconds until each segment expires, share earlier, delay
        #[rustfmt::skip]
        let table = [
            ("1 the shortest counts", 0, vec![Some(900), Some(600), Some(700)], 0.0, s(120)),
            ("1 one without an expiry", 0, vec![Some(600), None], 0.0, s(120)),
            ("1 none has an expiry", 0, vec![None, None], 0.0, s(120)),
            ("2 one segment", 0, vec![Some(600)], 0.0, s(200)),
            ("2 no segment", 0, vec![], 0.0, s(200)),
            ("2 the second of four", 1, vec![Some(600); 4], 0.0, s(150)),
            ("2 an index beyond the path", 9, vec![Some(600); 4], 0.0, s(240)),
            ("3 a tenth earlier", 0, vec![Some(600), Some(600)], 0.1, s(108)),
            ("4 expired", 0, vec![Some(0), Some(600)], 0.0, s(1)),
            ("4 about to expire", 0, vec![Some(3), Some(600)], 0.1, s(1)),
            ("4 never expires", 0, vec![Some(1 << 36); 2], 0.0, s(86_400)),
        ];
        for (rule, index, expiries, earlier, expected) in table {
            let mut connection = *Connection::named("a");
            let now = SystemTime::now();
            testing::path(&mut connection, index, &expiries);
            let delay = delay(&connection, now, earlier);
            assert!(delay.abs_diff(expected) < ms(200), "{rule}: {delay:?}, expected {expected:?}");
        }
    }

    /// A chain whose end counts Requests and fails on demand.
    fn chain(tasks: &Tasks, fails: &Arc<AtomicBool>, requests: &Arc<AtomicUsize>) -> Next {
        let fails = Arc::clone(fails);
        let requests = Arc::clone(requests);
        let end = tower::service_fn(move |call: Call| {
            requests.fetch_add(usize::from(matches!(call, Call::Request(_))), SeqCst);
            let fails = fails.load(SeqCst);
            async move {
                match fails {
                    true => Err(Error::from(Reason::Unavailable("as the test wants".into()))),
                    false => Ok(call.into_connection()),
                }
            }
        });
        let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
        rows.with(Refresh).end(end).build().unwrap()
    }

    fn ten_minutes() -> Request {
        let mut connection = Connection::named("a");
        testing::path(&mut connection, 0, &[Some(600), Some(600)]);
        Request::new(connection)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_refreshed_until_it_is_closed() {
        let tasks = Tasks::default();
        let fails = Arc::<AtomicBool>::default();
        let requests = Arc::<AtomicUsize>::default();
        let chain = chain(&tasks, &fails, &requests);
        chain.request(ten_minutes()).await.unwrap();
        sleep(Duration::from_secs(3 * 120 + 5)).await;
        assert_eq!(requests.load(SeqCst), 1 + 3);
        chain.close(Close::new(Connection::named("a"))).await.unwrap();
        sleep(Duration::from_secs(600)).await;
        assert_eq!((requests.load(SeqCst), tasks.len()), (1 + 3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_refresh_is_repeated_with_growing_pauses() {
        let tasks = Tasks::default();
        let fails = Arc::<AtomicBool>::default();
        let requests = Arc::<AtomicUsize>::default();
        let chain = chain(&tasks, &fails, &requests);
        chain.request(ten_minutes()).await.unwrap();
        fails.store(true, SeqCst);
        sleep(Duration::from_secs(120 + 60)).await;
        let tries = requests.load(SeqCst) - 1;
        assert!((12..=24).contains(&tries), "{tries} tries in about a minute");
        fails.store(false, SeqCst);
        sleep(Duration::from_secs(7)).await;
        let then = requests.load(SeqCst);
        assert_eq!(then, 1 + tries + 1);
        sleep(Duration::from_secs(90)).await;
        assert_eq!(requests.load(SeqCst), then, "the next one comes in its time");
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| Refresh).await.unwrap();
    }
}
