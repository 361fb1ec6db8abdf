// SPDX-License-Identifier: Apache-2.0

//! Follow the endpoints of a network service.
//!
//! A watch tells changes at once, but may end at any time and may miss some. So the truth is a picture, taken every 30 s and after
//! each end of a watch. What is removed, and when, is decided by the rules in [`Rules`]. Readers see one set that is always whole.
//!
//! # Known limits
//! An endpoint that is registered again without this network service is known until its last expiration.

mod follow;
mod known;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

pub use self::known::{Endpoints, Rules};
use super::registry::Registry;

/// Says whether an endpoint that the registry no longer shows is dead: nothing monitors it, or its neighbour does not answer. It
/// must not wait.
pub type Dead = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Times and rules of a discovery.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time between two pictures.
    pub interval: Duration,
    /// First pause before a watch is opened again, and before a failed picture is taken again. Each further one is twice as long,
    /// with jitter.
    pub first_pause: Duration,
    /// Longest such pause.
    pub longest_pause: Duration,
    /// A watch that lasted this long was a good one: the next pause is the first.
    pub good: Duration,
    /// What is removed, and when.
    pub rules: Rules,
}

impl Default for Settings {
    /// A picture every 30 s; pauses of 0.5 to 5 s.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(5),
            good: Duration::from_secs(10),
            rules: Rules::default(),
        }
    }
}

/// What a discovery knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Endpoints by name.
    pub endpoints: Arc<Endpoints>,
    /// Names that the registry shows although they expired long ago; they are not taken until they are registered again.
    pub aside: BTreeSet<String>,
    /// Whether a picture has been taken: without one, what is missing is not known to be missing.
    pub complete: bool,
    /// Why the last picture could not be taken; the endpoints are those of before.
    pub failure: Option<String>,
}

/// A whole answer of the registry that shows at least one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// When the registry was asked.
    pub asked: Instant,
    /// The names of all endpoints that it showed.
    pub names: BTreeSet<String>,
}

/// The endpoints of a network service, followed for as long as this lives.
pub struct Discovery {
    known: watch::Receiver<Known>,
    pictures: watch::Receiver<Option<Picture>>,
    _task: AbortOnDropHandle<()>,
}

impl Discovery {
    /// Follow the endpoints of the network service `service`, in a task of its own.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start<R: Registry>(registry: R, service: &str, dead: Dead, settings: Settings) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let (taken, pictures) = watch::channel(None);
        let follower = follow::Follower::new(registry, service, dead, settings, (sender, taken));
        Self { known, pictures, _task: AbortOnDropHandle::new(tokio::spawn(follower.follow())) }
    }

    /// What is known now, and every change of it. A mere refresh of an endpoint is no change.
    pub fn known(&self) -> watch::Receiver<Known> {
        self.known.clone()
    }

    /// The last picture, and every later one. An empty or partial answer is none.
    pub fn pictures(&self) -> watch::Receiver<Option<Picture>> {
        self.pictures.clone()
    }
}
