// SPDX-License-Identifier: Apache-2.0
//! The paths of the admin listener, and their methods.

use axum::{
    Router,
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::from_fn,
    response::Response,
    routing::{MethodRouter, get},
};
use tokio::time::timeout;

use super::{
    answers, hosts, page,
    serve::{BODY_TIME, MAX_BODY},
};
use crate::proxy::{
    config::LogLevel,
    health::{LIVENESS, READINESS},
    log::Verbosity,
    metrics::Metrics,
    state::Sources,
};

/// What the routes read, and the one thing that they change.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The state of the proxy.
    pub(crate) sources: Sources,
    /// The level of the log.
    pub(crate) verbosity: Verbosity,
    /// The metrics; `None` if they could not be set up.
    pub(crate) metrics: Option<Metrics>,
}

/// Every path with its methods, in the order in which an answer lists them.
fn routes() -> [(&'static str, &'static str, MethodRouter<Admin>); 9] {
    [
        ("/", "GET", get(page::page)),
        ("/healthz", "GET", get(healthz)),
        ("/readyz", "GET", get(readyz)),
        ("/metrics", "GET", get(metrics)),
        ("/state", "GET", get(state)),
        ("/events", "GET", get(events)),
        ("/chains", "GET", get(chains)),
        ("/config", "GET", get(config)),
        ("/log-level", "GET, PUT", get(level).put(set_level)),
    ]
}

/// The routes of the admin listener.
pub(crate) fn router(admin: Admin) -> Router {
    let routes =
        routes().into_iter().fold(Router::new(), |router, (path, _, route)| router.route(path, route));
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(refused)
        .with_state(admin)
        .layer(from_fn(hosts::check))
}

async fn healthz(State(admin): State<Admin>) -> Response {
    verdict(&admin, LIVENESS)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    verdict(&admin, READINESS)
}

/// The reason, and each degradation in a line of its own.
fn verdict(admin: &Admin, service: &str) -> Response {
    let verdict = admin.sources.health().of(service);
    let Some(verdict) = verdict else { return answers::text(StatusCode::NOT_FOUND, "no such service") };
    let status = if verdict.serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let degraded = verdict.degraded.iter().map(|what| format!("\ndegraded: {what}"));
    answers::text(status, verdict.reason.clone() + &degraded.collect::<String>())
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match &admin.metrics {
        Some(metrics) => metrics.answer().await,
        None => answers::text(StatusCode::SERVICE_UNAVAILABLE, "no metrics; the log has the reason"),
    }
}

async fn state(State(admin): State<Admin>) -> Response {
    answers::json(&admin.sources.document())
}

async fn events(State(admin): State<Admin>) -> Response {
    answers::json(&admin.sources.events())
}

async fn chains() -> Response {
    answers::json(&Sources::chains())
}

async fn config(State(admin): State<Admin>) -> Response {
    answers::json(&admin.sources.config().settings)
}

async fn level(State(admin): State<Admin>) -> Response {
    answers::text(StatusCode::OK, admin.verbosity.level().name())
}

async fn set_level(State(admin): State<Admin>, body: Body) -> Response {
    let accepted = LogLevel::ALL.map(LogLevel::name).join(", ");
    let body = match read(body).await {
        Ok(body) => body,
        Err((status, why)) => return answers::text(status, format!("{why} (accepted: {accepted})")),
    };
    let name = String::from_utf8_lossy(&body);
    let Some(level) = LogLevel::named(name.trim()) else {
        let text = format!("level `{}` is not accepted (accepted: {accepted})", answers::shown(name.trim()));
        return answers::text(StatusCode::BAD_REQUEST, text);
    };
    admin.verbosity.set(level);
    tracing::info!(level = level.name(), "log level set by the admin listener");
    answers::text(StatusCode::OK, level.name())
}

/// A whole body, unless it is too long or does not come in time.
async fn read(body: Body) -> Result<Bytes, (StatusCode, String)> {
    let long =
        || (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {MAX_BODY} bytes, or was cut"));
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(long());
    }
    match timeout(BODY_TIME, to_bytes(body, MAX_BODY)).await {
        Ok(read) => read.map_err(|_| long()),
        Err(_late) => {
            Err((StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIME:?}")))
        }
    }
}

/// A path that is not served.
async fn unknown(request: Request) -> Response {
    let paths = routes().map(|(path, ..)| path).join(", ");
    let path = answers::shown(request.uri().path());
    answers::text(StatusCode::NOT_FOUND, format!("path `{path}` is not accepted (accepted: {paths})"))
}

/// A method that the path does not have.
async fn refused(method: Method, request: Request) -> Response {
    let path = request.uri().path();
    let methods =
        routes().into_iter().find(|(known, ..)| *known == path).map_or("", |(_, methods, _)| methods);
    let method = answers::shown(method.as_str());
    let text = format!("method {method} of {path} is not accepted (accepted: {methods})");
    let mut answer = answers::text(StatusCode::METHOD_NOT_ALLOWED, text);
    if let Ok(methods) = methods.parse() {
        answer.headers_mut().insert(header::ALLOW, methods);
    }
    answer
}
