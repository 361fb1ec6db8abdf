// SPDX-License-Identifier: Apache-2.0

//! Owns background tasks, and delays attempts that follow a failure.

mod backoff;
mod tasks;

pub use self::{
    backoff::{Backoff, jittered},
    tasks::{Task, Tasks},
};
