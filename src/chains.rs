// SPDX-License-Identifier: Apache-2.0

//! The standard chains of an endpoint and of a client, with a slot for rows of their own (NSM
//! `endpoint.NewServer` and `client.NewClient`).
//!
//! ```
//! use std::time::Duration;
//!
//! use nsm::{chains, elements::mtu::Mtu, server::monitor::Connections, task::Tasks};
//!
//! const LIFETIME: Duration = Duration::from_secs(600);
//! let endpoint = chains::endpoint("web-1", LIFETIME, &Connections::default(), &Tasks::default());
//! assert_eq!(
//!     endpoint.append(Mtu(1500)).to_string(),
//!     "trace → update_path → update_token → authorize → begin → metadata → timeout → monitor → trim_path → mtu",
//! );
//! ```
//!
//! A row that does not fit is replaced or taken out, and a row is put before another, by name. The
//! names are those that the chain prints; [`build`](Chain::build) refuses any other:
//!
//! ```
//! use std::time::Duration;
//!
//! use nsm::{
//!     chains,
//!     elements::{heal::{self, Heal}, mtu::Mtu},
//!     task::Tasks,
//!     testing::Authority,
//!     transport::Dialer,
//! };
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let nsmgr = Dialer {
//!     address: "unix:///var/lib/networkservicemesh/nsm.io.sock".parse()?,
//!     identity: Authority::new("example.org").identity("shop-1"),
//!     dial_timeout: Duration::from_secs(5),
//!     token_lifetime: Duration::from_secs(600),
//! };
//! let settings = heal::Settings { longest_pause: Duration::from_secs(60), ..heal::Settings::default() };
//! let client = chains::client("shop-1", nsmgr, &Tasks::default())
//!     .replace("heal", Heal::new(settings))
//!     .without("trace")
//!     .append(Mtu(1500));
//! assert_eq!(
//!     client.to_string(),
//!     "update_path → begin → metadata → refresh → heal → mtu → authorize → connect",
//! );
//! # Ok(()) }
//! ```

use std::time::Duration;

use crate::{
    chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
    elements::{
        authorize,
        connect::Connect,
        heal::{self, Heal},
        monitor::Monitor,
        refresh::Refresh,
        timeout::Timeout,
        trace::Trace,
        trim_path::TrimPath,
        update_path::UpdatePath,
        update_token::UpdateToken,
    },
    server::monitor::Connections,
    task::Tasks,
    transport::Dialer,
};

/// The rows of an endpoint that publishes its connections. `name` is its segment in every path,
/// `tasks` own the lanes and timers. The slot is below all rows.
pub fn endpoint(name: &str, token_lifetime: Duration, connections: &Connections, tasks: &Tasks) -> Chain {
    Chain::new()
        .with(Trace)
        .with(UpdatePath::new(name))
        .with(UpdateToken::new(token_lifetime))
        .with(authorize::Endpoint)
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .with(Timeout)
        .with(Monitor::new(connections.clone()))
        .with(TrimPath::default())
}

/// The rows of a client that calls the peer at the other end of a dialer. `name` is its segment in
/// every path, `tasks` own the lanes and timers. The slot is below `heal` and above `authorize`,
/// which verifies an answer before the rows in the slot receive it.
pub fn client(name: &str, dialer: Dialer, tasks: &Tasks) -> Chain {
    let heal = heal::Settings { token_lifetime: dialer.token_lifetime, ..heal::Settings::default() };
    Chain::new()
        .with(Trace)
        .with(UpdatePath::new(name))
        .with(BeginLayer::client(tasks.clone()))
        .with(MetadataLayer)
        .with(Refresh)
        .with(Heal::new(heal))
        .slot()
        .with(authorize::Client)
        .end(Connect::new(dialer))
}
