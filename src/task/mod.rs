// SPDX-License-Identifier: Apache-2.0

//! Owned background tasks, and pauses between attempts.

mod backoff;
mod tasks;

pub use self::{
    backoff::{Backoff, jittered},
    tasks::{Task, Tasks},
};
