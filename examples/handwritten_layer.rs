// SPDX-License-Identifier: Apache-2.0

//! A layer written by hand, as in tower-http: the layer, the service, the future. It reports the
//! duration of each call.

use std::{
    pin::Pin,
    sync::mpsc::{Sender, channel},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use nsm::{
    api::Connection,
    chain::{Call, Chain, Request, laws},
    elements::mtu::Mtu,
};
use pin_project::pin_project;
use tower::{Layer, Service};

/// Layer that produces [`Took`].
struct TookLayer(Sender<Duration>);

impl<S> Layer<S> for TookLayer {
    type Service = Took<S>;

    fn layer(&self, inner: S) -> Took<S> {
        Took { inner, report: self.0.clone() }
    }
}

/// Reports the duration of each call.
#[derive(Clone)]
struct Took<S> {
    inner: S,
    report: Sender<Duration>,
}

impl<S: Service<Call>> Service<Call> for Took<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Timing<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Timing<S::Future> {
        Timing { answer: self.inner.call(call), start: Instant::now(), report: self.report.clone() }
    }
}

#[pin_project]
struct Timing<F> {
    #[pin]
    answer: F,
    start: Instant,
    report: Sender<Duration>,
}

impl<F: Future> Future for Timing<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        let _nobody_listens = this.report.send(this.start.elapsed());
        Poll::Ready(answer)
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)] // paused for the laws
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (report, took) = channel();
    let chain = Chain::new().layer("took", TookLayer(report)).with(Mtu(1500)).build()?;
    chain.request(Request::new(Connection::named("a"))).await?;
    println!("the call took {:?}", took.try_recv()?); // an error if nothing was reported
    laws::check_layer(|| TookLayer(channel().0), || 0).await?;
    Ok(())
}
