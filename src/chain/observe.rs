// SPDX-License-Identifier: Apache-2.0

//! Reports the calls of a chain's rows to an observer.
//!
//! The rows of a chain that has no observer are as they would be without this module.

use std::sync::Arc;

use futures::FutureExt;
use tokio::time::{Duration, Instant};
use tonic::Code;

use super::{
    Call, Error, EventKind, Next, Origin, Result,
    element::{Erased, ResponseFuture},
};
use crate::api::Connection;

/// Receives a report of each call of each row, when the call ends.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, observe::{Ended, Observer}},
///     elements::mtu::Mtu,
///     tonic::Code,
/// };
///
/// /// Counts the calls that fail.
/// #[derive(Default)]
/// struct Failures(AtomicU64);
///
/// impl Observer for Failures {
///     fn ended(&self, _row: &'static str, call: &Ended) {
///         self.0.fetch_add(u64::from(call.code != Code::Ok), Ordering::Relaxed);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let failures = Arc::new(Failures::default());
/// let chain = Chain::new().with(Mtu(1500)).observe(failures.clone()).build()?;
/// chain.request(Request::new(Connection::named("a"))).await?;
/// assert_eq!(failures.0.load(Ordering::Relaxed), 0);
/// # Ok(()) }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// A call of a row has ended. Must not block: the call waits for it.
    fn ended(&self, row: &'static str, call: &Ended);
}

/// A call of a row that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// `Request` or `Close`.
    pub method: &'static str,
    /// The starter of the call.
    pub origin: Origin,
    /// Time that the row took, with all rows below it.
    pub time: Duration,
    /// The result; `Cancelled` if the call was dropped before it had one.
    pub code: Code,
}

/// A row with an observer.
struct Observed {
    row: &'static str,
    observer: Arc<dyn Observer>,
    next: Next,
}

/// Observes the first row of `next`.
pub(super) fn observed(row: &'static str, observer: Arc<dyn Observer>, next: Next) -> Next {
    Next(Arc::new(Observed { row, observer, next }))
}

impl Erased for Observed {
    fn call(&self, call: Call) -> ResponseFuture {
        let mut report = Report {
            row: self.row,
            observer: Arc::clone(&self.observer),
            method: method(&call),
            origin: call.context().origin,
            began: Instant::now(),
            code: Code::Cancelled,
        };
        let answer = self.next.0.call(call);
        Box::pin(answer.map(move |answer| {
            report.end(&answer);
            answer
        }))
    }
}

const fn method(call: &Call) -> &'static str {
    match call {
        Call::Request(_) => "Request",
        Call::Close(_) => "Close",
    }
}

/// Reports when it is dropped, so that a cancelled call is reported too.
struct Report {
    row: &'static str,
    observer: Arc<dyn Observer>,
    method: &'static str,
    origin: Origin,
    began: Instant,
    code: Code,
}

impl Report {
    fn end(&mut self, answer: &Result<Box<Connection>>) {
        self.code = answer.as_ref().map_or_else(Error::code, |_| Code::Ok);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let Self { method, origin, code, .. } = *self;
        self.observer.ended(self.row, &Ended { method, origin, time: self.began.elapsed(), code });
    }
}

impl Origin {
    /// A word for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Event(EventKind::Refresh) => "refresh",
            Self::Event(EventKind::Timeout) => "timeout",
            Self::Event(EventKind::Heal) => "heal",
            Self::Event(EventKind::Reselect) => "reselect",
            Self::Event(EventKind::Closing) => "closing",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::chain::{Chain, Close, Element, Reason, Request};

    /// Waits before it passes a call on, or refuses it.
    struct Slow(&'static str, Duration);

    impl Element for Slow {
        const NAME: &'static str = "slow";

        async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
            tokio::time::sleep(self.1).await;
            match self.0 {
                "refuses" => Err(Reason::Denied("no".into()).into()),
                _ => next.request(request).await,
            }
        }
    }

    struct Pass;

    impl Element for Pass {
        const NAME: &'static str = "pass";
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<(&'static str, &'static str, u64, Code)>>);

    impl Observer for Seen {
        fn ended(&self, row: &'static str, call: &Ended) {
            assert_eq!(call.origin, Origin::Caller);
            self.0.lock().unwrap().push((row, call.method, call.time.as_secs(), call.code));
        }
    }

    fn chain(kind: &'static str) -> (Next, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let slow = Slow(kind, Duration::from_secs(2));
        let chain = Chain::new().with(Pass).with(slow).observe(seen.clone()).build().unwrap();
        (chain, seen)
    }

    fn request() -> Request {
        Request::new(Connection::named("a"))
    }

    #[tokio::test(start_paused = true)]
    async fn every_row_is_reported_from_below_with_its_time() {
        let (chain, seen) = chain("passes");
        chain.request(request()).await.unwrap();
        chain.close(Close::new(Connection::named("a"))).await.unwrap();
        let calls = std::mem::take(&mut *seen.0.lock().unwrap());
        let expected = [
            ("tail", "Request", 0, Code::Ok),
            ("slow", "Request", 2, Code::Ok),
            ("pass", "Request", 2, Code::Ok),
            ("tail", "Close", 0, Code::Ok),
            ("slow", "Close", 0, Code::Ok),
            ("pass", "Close", 0, Code::Ok),
        ];
        assert_eq!(calls, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_or_is_dropped_is_reported_too() {
        let (refusing, seen) = chain("refuses");
        refusing.request(request()).await.unwrap_err();
        let denied = Code::PermissionDenied;
        assert_eq!(*seen.0.lock().unwrap(), [("slow", "Request", 2, denied), ("pass", "Request", 2, denied)]);
        let (slow, seen) = chain("passes");
        let second = Duration::from_secs(1);
        tokio::time::timeout(second, slow.request(request())).await.unwrap_err();
        let cancelled = Code::Cancelled;
        let expected = [("slow", "Request", 1, cancelled), ("pass", "Request", 1, cancelled)];
        let mut calls = seen.0.lock().unwrap().clone();
        calls.sort_by(|this, that| that.0.cmp(this.0)); // dropped from above
        assert_eq!(calls, expected);
    }
}
