// SPDX-License-Identifier: Apache-2.0
//! The elements of a hop in the middle of a path that nsmgr and forwarder share.
//!
//! They stand in an endpoint's chain, where an endpoint has its own behaviours: an element of the
//! hop chooses the [`NextHop`], and [`Relay`] at the end calls it and returns its answer.
//! [`ReturnFd`] sends the caller's descriptor back, as NSM does.

mod relay;
mod return_fd;

pub use self::{
    relay::{NextHop, Relay},
    return_fd::ReturnFd,
};
