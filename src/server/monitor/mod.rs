// SPDX-License-Identifier: Apache-2.0

//! Publishes connection events to monitor streams (NSM `MonitorConnections`).
//!
//! [`Connections`] holds the connections that an endpoint has and the streams that watch them. The
//! endpoint's `monitor` element publishes; [`Endpoint`](super::Endpoint) answers the RPC with a
//! [`Subscription`]; [`watch`] and [`snapshot`] are the client's side.
//!
//! A forwarder opens one stream per link and takes its end for a broken connection. So a stream
//! stays open until its reader leaves, the server stops, or the reader falls too far behind.

mod client;
mod connections;
mod limits;
mod ours;
mod selector;
mod subscription;

pub(crate) use self::ours::Ours;
pub use self::{
    client::{Events, SnapshotError, snapshot, watch},
    connections::Connections,
    limits::{Limits, Refused},
    subscription::Subscription,
};

#[cfg(test)]
mod tests;
