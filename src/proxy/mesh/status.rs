// SPDX-License-Identifier: Apache-2.0
//! Status of the connections to the load balancers.

use std::{collections::BTreeMap, fmt};

/// State of the connection to one load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Requests are being made.
    Requesting {
        /// Why the last one failed.
        error: Option<String>,
    },
    /// The connection is established, and the chain maintains it.
    Connected,
    /// The load balancer is gone; the connection is being closed.
    Closing,
}

/// States of the connections to the load balancers, by endpoint name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Whether discovery has listed the load balancers.
    pub known: bool,
    /// Every load balancer that is wanted or being closed.
    pub links: BTreeMap<String, LinkState>,
}

impl Status {
    /// Number of established connections.
    pub(crate) fn connected(&self) -> usize {
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
