// SPDX-License-Identifier: Apache-2.0

//! Receives the answer of one call, no later than its deadline.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::BoxError;

use super::Driver;
use crate::transport::fd::Queued;

/// How long after its deadline a call is given up here. The peer can name the cause, so its answer
/// is preferred.
const GRACE: Duration = Duration::from_millis(500);

/// Deadline of a call, in the extensions of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(pub(super) Instant);

/// Waits for the head of an answer. Descriptors of the call that have not left by then are
/// withdrawn.
pub(super) async fn receive(
    response: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    queued: Option<Queued>,
    limit: Option<Limit>,
    driver: Arc<Driver>,
) -> Result<http::Response<Body>, BoxError> {
    let mut late = limit.map(|Limit(deadline)| Box::pin(sleep_until(deadline + GRACE)));
    let response = match &mut late {
        None => response.await,
        Some(late) => tokio::select! {
            biased;
            response = response => response,
            () = late => return Err(silence().into()),
        },
    };
    drop(queued);
    Ok(response?.map(|body| Body::new(ResponseBody { body, late, _driver: driver })))
}

/// The body of an answer. It keeps the connection open while it is read.
struct ResponseBody {
    body: Incoming,
    late: Option<Pin<Box<Sleep>>>,
    _driver: Arc<Driver>,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        match self.late.as_mut().map(|late| late.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Some(Err(silence().into()))),
            _ => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

fn silence() -> Status {
    Status::deadline_exceeded("no answer by the deadline")
}
