// SPDX-License-Identifier: Apache-2.0
//! Say how the connections to the load balancers stand.

use std::{collections::BTreeMap, fmt};

/// How the connection to one load balancer stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Requests are being made.
    Requesting {
        /// Why the last one failed.
        error: Option<String>,
    },
    /// The connection is established, and kept so by the chain.
    Connected,
    /// The load balancer is gone; the connection is being closed.
    Closing,
}

/// How the connections to the load balancers stand, by endpoint name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether discovery has told which load balancers there are.
    pub known: bool,
    /// Every load balancer that is wanted or being closed.
    pub links: BTreeMap<String, LinkState>,
}

impl Status {
    /// Number of established connections.
    pub fn connected(&self) -> usize {
        self.links.values().filter(|state| **state == LinkState::Connected).count()
    }
}

/// One line for health and logs.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.known {
            return f.write_str("load balancers not known yet");
        }
        write!(f, "{} of {} load balancers connected", self.connected(), self.links.len())?;
        for (name, state) in &self.links {
            match state {
                LinkState::Requesting { error: Some(error) } => write!(f, "; {name}: {error}")?,
                LinkState::Requesting { error: None } => write!(f, "; {name}: requesting")?,
                LinkState::Closing => write!(f, "; {name}: closing")?,
                LinkState::Connected => {}
            }
        }
        Ok(())
    }
}
