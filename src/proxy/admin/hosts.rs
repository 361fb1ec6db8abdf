// SPDX-License-Identifier: Apache-2.0
//! Refuses requests that a web page of another site has a browser send.
//!
//! A page may have its own host name resolve to this machine, as the browser of an operator sees it
//! through a forwarded port. Its requests then have that name as their host; those of an operator
//! have an address or `localhost`.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::answers;

/// Passes on requests whose host is an address, `localhost` or missing.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| host.to_str().unwrap_or("not text")).unwrap_or_default();
    match is_local(host) {
        true => next.run(request).await,
        false => answers::text(
            StatusCode::FORBIDDEN,
            format!("host `{}` is not accepted (accepted: localhost, or an address)", answers::shown(host)),
        ),
    }
}

fn is_local(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = bracketed.unwrap_or_else(|| host.split_at(host.find(':').unwrap_or(host.len())));
    let port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    port && (name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn a_host_is_an_address_or_localhost() {
        for host in
            ["", "localhost", "LOCALHOST:9090", "127.0.0.1:9090", "10.1.2.3", "[::1]:9090", "[fd00::1]"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "example.com",
            "example.com:9090",
            "localhost.example.com",
            "127.0.0.1.example.com:80",
            "[::1",
            "localhost:x",
            "::1:9090",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
