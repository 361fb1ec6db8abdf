// SPDX-License-Identifier: Apache-2.0
//! The elements of a hop in the middle of a path: nsmgr and forwarder.
//!
//! They stand in the endpoint chain, in the place where an endpoint has its own behaviours:
//! [`RecvFd`] claims the descriptors that the caller names, an element of the hop chooses the [`NextHop`] and does its work, [`Follow`]
//! watches the next hop, and [`Relay`] is the end: it calls the next hop and answers with its answer.

mod follow;
mod recv_fd;
mod relay;

pub use self::{
    follow::Follow,
    recv_fd::{Descriptors, RecvFd},
    relay::{Hop, NextHop, Relay},
};
