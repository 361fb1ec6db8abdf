// SPDX-License-Identifier: Apache-2.0

//! States of a proxy for tests.

use crate::proxy::{
    config::Config,
    health::Health,
    state::{Document, Sources},
};

/// A proxy that starts.
pub(super) fn starting() -> Document {
    let config = Config::parse(|name| {
        let value = match name {
            "SPIFFE_ENDPOINT_SOCKET" => "unix:///run/agent.sock",
            "NSM_NAME" => "px",
            "NSM_HOST" => "node-1",
            "NSM_CONDUIT" => "blue",
            "NSM_TRENCH" => "red",
            _ => return None,
        };
        Some(value.to_owned())
    });
    Sources::new(&config.unwrap(), &Health::default()).document()
}

/// A proxy that is well, with two load balancers, one target and one VIP: the state of the page of
/// commands.
pub(super) fn well() -> Document {
    serde_json::from_str(include_str!("../../../tests/commands/state.json")).unwrap()
}
