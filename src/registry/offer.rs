// SPDX-License-Identifier: Apache-2.0

//! The registered entries, and the timeout of each step.

use std::{path::PathBuf, time::Duration};

use crate::api::pb::registry::{NetworkService, NetworkServiceEndpoint};

/// The entries to register.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The network services, registered before the endpoint and never unregistered; empty if they
    /// are registered elsewhere.
    pub services: Vec<NetworkService>,
    /// The endpoint: its name, the names of its network services, its labels for each. Without an
    /// expiration the registry's default lifetime applies.
    pub endpoint: NetworkServiceEndpoint,
    /// The unix socket on which the endpoint listens. `None` registers the endpoint's own URL.
    pub socket: Option<PathBuf>,
}

/// Times of a registration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Deadline that [`Client`](super::Client) gives a Register: nsmgr drops the entry this long
    /// before it lapses.
    pub deadline: Duration,
    /// Time between the refresh and that moment, for attempts that fail.
    pub margin: Duration,
    /// First pause after a failure. Each further one is twice as long, with jitter.
    pub first_pause: Duration,
    /// Longest pause. After a restart of nsmgr, we are registered again at the latest this long
    /// after it listens.
    pub longest_pause: Duration,
    /// Time for the registry to list an entry that it has registered.
    pub shown: Duration,
    /// Time for [`Registration::unregister`](super::Registration::unregister).
    pub unregister: Duration,
}

impl Default for Settings {
    /// 5 s for a call, 5 s of margin; pauses of 0.2 to 2 s; 2 s to be listed; 3 s to unregister.
    fn default() -> Self {
        let s = Duration::from_secs;
        let ms = Duration::from_millis;
        let first_pause = ms(200);
        let longest_pause = s(2);
        Self { deadline: s(5), margin: s(5), first_pause, longest_pause, shown: s(2), unregister: s(3) }
    }
}
