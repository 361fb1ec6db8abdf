// SPDX-License-Identifier: Apache-2.0
//! The calls of both chains, and those to IPAM and NSP.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use opentelemetry::{
    KeyValue, StringValue,
    metrics::{Counter, Histogram, Meter},
};
use tokio::time::Instant;
use tonic::Code;
use tower::Service;

use super::{Metrics, metric::Metric};
use crate::{
    chain::{
        Element,
        metadata::MetadataLayer,
        observe::{Ended, Observer},
    },
    elements::{connect::Connect, trace::Trace},
};

const ROWS: Metric = Metric::histogram(
    "meridio.proxy.row.duration",
    &[0.001, 0.01, 0.1, 1.0, 10.0],
    "Time of a call in a row of a chain, with all rows below it.",
)
.by(&["chain", "row"], 64);
const CALLS: Metric = Metric::counter(
    "meridio.proxy.calls",
    "{call}",
    "Calls below `begin`, by their starter: a caller, or a refresh, heal, reselect, timeout or repeated Close.",
)
.by(&["chain", "method", "origin", "code"], 256);
const SERVED: Metric =
    Metric::histogram("rpc.server.call.duration", BOUNDS, "Time to answer a Request or Close of a peer.")
        .by(RPC, 64);
const MADE: Metric = Metric::histogram(
    "rpc.client.call.duration",
    BOUNDS,
    "Time until the first answer: of nsmgr to a Request or Close, of the registry, of IPAM and NSP.",
)
.by(RPC, 64);
const BOUNDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0];
const RPC: &[&str] = &["rpc.method", "rpc.response.status_code"];

pub(super) const METRICS: [&Metric; 4] = [&ROWS, &CALLS, &SERVED, &MADE];

/// The instruments, to which calls are reported as they end. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    rows: Histogram<f64>,
    calls: Counter<u64>,
    served: Histogram<f64>,
    made: Histogram<f64>,
}

impl Calls {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            rows: ROWS.record(meter),
            calls: CALLS.count(meter),
            served: SERVED.record(meter),
            made: MADE.record(meter),
        }
    }

    /// Reports a call to a service.
    pub(super) fn made(&self, method: StringValue, time: Duration, code: Code) {
        self.made.record(time.as_secs_f64(), &labels(method, name(code)));
    }

    /// An observer of a chain.
    pub(super) fn chain(&self, name: &'static str) -> Arc<dyn Observer> {
        Arc::new(OfChain { chain: name, to: self.clone() })
    }
}

struct OfChain {
    chain: &'static str,
    to: Calls,
}

impl Observer for OfChain {
    fn ended(&self, row: &'static str, call: &Ended) {
        let chain = KeyValue::new("chain", self.chain);
        let time = call.time.as_secs_f64();
        self.to.rows.record(time, &[chain.clone(), KeyValue::new("row", row)]);
        let code = name(call.code);
        let rpc = match call.method {
            "Close" => "networkservice.NetworkService/Close",
            _ => "networkservice.NetworkService/Request",
        };
        match row {
            MetadataLayer::NAME => {
                let labels = [
                    chain,
                    KeyValue::new("method", call.method),
                    KeyValue::new("origin", call.origin.name()),
                    KeyValue::new("code", code),
                ];
                self.to.calls.add(1, &labels);
            }
            Trace::NAME if self.chain == "endpoint" => self.to.served.record(time, &labels(rpc.into(), code)),
            Connect::NAME => self.to.made.record(time, &labels(rpc.into(), code)),
            _ => {}
        }
    }
}

fn labels(method: StringValue, code: &'static str) -> [KeyValue; 2] {
    [KeyValue::new(RPC[0], method), KeyValue::new(RPC[1], code)]
}

/// A service under generated clients whose calls are reported.
#[derive(Clone, Debug)]
pub struct Timed<S> {
    inner: S,
    to: Option<Calls>,
}

impl<S> Timed<S> {
    /// Reports the calls of a service, if there are metrics.
    pub(crate) fn new(inner: S, metrics: Option<&Metrics>) -> Self {
        Self { inner, to: metrics.map(|metrics| metrics.0.calls.clone()) }
    }
}

impl<S, T, A> Service<http::Request<T>> for Timed<S>
where
    S: Service<http::Request<T>, Response = http::Response<A>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<T>) -> Self::Future {
        let method: Arc<str> = request.uri().path().trim_start_matches('/').into();
        let began = Instant::now();
        let to = self.to.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if let Some(to) = to {
                let code = answer.as_ref().map_or(Code::Unavailable, |answer| code(answer.headers()));
                to.made(method.into(), began.elapsed(), code);
            }
            answer
        })
    }
}

/// The status of an answer, as far as its headers have it: a call that fails has no other.
fn code(headers: &http::HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
}

/// The name of a code by gRPC's documentation.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
