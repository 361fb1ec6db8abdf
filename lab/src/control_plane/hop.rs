// SPDX-License-Identifier: Apache-2.0
//! The common parts of the chains of the lab's own NSM components.

use std::time::Duration;

use nsm::{chain::Chain, chains, elements::monitor::Monitor, server::monitor::Connections, task::Tasks};

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

    /// The standard rows of an endpoint.
    pub fn endpoint(&self, connections: &Connections) -> Chain {
        chains::endpoint(&self.name, TOKEN_LIFETIME, connections, &self.tasks)
    }

    /// The same for a hop in the middle, whose path does not end here.
    pub fn pass_through(&self, connections: &Connections) -> Chain {
        let monitor = Monitor::pass_through(connections.clone(), TOKEN_LIFETIME);
        self.endpoint(connections).replace("monitor", monitor).without("trim_path")
    }
}
