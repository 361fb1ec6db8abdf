// SPDX-License-Identifier: Apache-2.0

//! Agrees on the mechanism of a link and on its name (NSM `mechanisms`, `kernel` and `noop`).
//!
//! The link is a kernel interface that the forwarder makes and moves into our network namespace.
//! Each side names its own end. `inodeURL` gets a placeholder that only has a meaning inside this
//! process; `send_fd` puts the descriptor and its inode in its place.
//!
//! # State
//! The name, so that it is the same in every refresh. It is free again when the connection is gone.

mod client;
mod endpoint;
pub(crate) mod names;
pub(crate) mod primary;

pub use self::{
    client::Client,
    endpoint::Endpoint,
    names::{Claim, Names, Taken},
};

/// Placeholder for the network namespace of this process; elements below replace it by a
/// descriptor.
pub(crate) const OWN_NETNS: &str = "file:///proc/thread-self/ns/net";
