// SPDX-License-Identifier: Apache-2.0
//! Serves `/metrics` to other pods, on a port of its own.
//!
//! Connections and requests are bounded as those of the admin listener.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
    routing::get,
};

use super::Metrics;
use crate::{
    chain::causes,
    proxy::admin::{self, Served},
    task::Tasks,
    transport::{Address, ListenError, Listener},
};

/// Starts to serve, if a port is given. A port that cannot be used costs a warning and nothing
/// else.
pub(crate) async fn serve(port: Option<u16>, metrics: Option<&Metrics>, tasks: &Tasks) -> Option<Served> {
    let port = port?;
    let metrics = metrics?.clone();
    match listen(port).await {
        Ok(listener) => {
            tracing::info!(port, "metrics listener");
            Some(admin::serve(listener, router(metrics), tasks))
        }
        Err(error) => {
            let error = causes(&error);
            let fix = "set NSM_METRICS_PORT to a free port, or NSM_METRICS_ENABLED to false";
            tracing::warn!(port, error, fix, "no metrics listener");
            None
        }
    }
}

/// All addresses of both families, or of IPv4 if the pod has no IPv6.
pub(super) async fn listen(port: u16) -> Result<Listener, ListenError> {
    let target = |address| Address::Tcp(format!("{address}:{port}"));
    match Listener::bind_plain(&target(format!("[{}]", Ipv6Addr::UNSPECIFIED))).await {
        Ok(listener) => Ok(listener),
        Err(_) => Listener::bind_plain(&target(Ipv4Addr::UNSPECIFIED.to_string())).await,
    }
}

pub(super) fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .fallback(unknown)
        .method_not_allowed_fallback(refused)
        .with_state(metrics)
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    metrics.answer().await
}

async fn unknown(_: Request) -> Response {
    admin::text(StatusCode::NOT_FOUND, "this path is not accepted (accepted: /metrics)")
}

async fn refused(_: Request) -> Response {
    admin::text(StatusCode::METHOD_NOT_ALLOWED, "this method is not accepted (accepted: GET)")
}
