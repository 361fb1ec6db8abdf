// SPDX-License-Identifier: Apache-2.0
//! The common parts of the chains of the lab's own NSM components.

use std::time::Duration;

use nsm::{
    chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
    elements::{
        authorize, monitor::Monitor, timeout::Timeout, trace::Trace, trim_path::TrimPath,
        update_path::UpdatePath, update_token::UpdateToken,
    },
    server::monitor::Connections,
    task::Tasks,
};

/// Lifetime of the tokens that the lab's components send.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// A component: its name in paths, and its tasks.
pub struct Hop {
    /// Name of its path segment.
    pub name: String,
    /// Its background tasks.
    pub tasks: Tasks,
}

impl Hop {
    /// A component without tasks yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), tasks: Tasks::default() }
    }

    /// The upper rows of a hop in the middle, with NSM's default policies.
    pub fn pass_through(&self, connections: &Connections) -> Chain {
        self.upper().with(Monitor::pass_through(connections.clone(), TOKEN_LIFETIME))
    }

    /// The upper rows of an endpoint, with NSM's default policies.
    pub fn endpoint(&self, connections: &Connections) -> Chain {
        self.upper().with(Monitor::new(connections.clone())).with(TrimPath::default())
    }

    fn upper(&self) -> Chain {
        Chain::new()
            .with(Trace)
            .with(UpdatePath::new(self.name.clone()))
            .with(UpdateToken::new(TOKEN_LIFETIME))
            .with(authorize::Endpoint)
            .with(BeginLayer::endpoint(self.tasks.clone()))
            .with(MetadataLayer)
            .with(Timeout)
    }
}
