// SPDX-License-Identifier: Apache-2.0

//! Owns background tasks, and delays attempts that follow a failure.

mod backoff;
mod panic;
mod tasks;

pub(crate) use self::panic::panic_message;
pub use self::{
    backoff::{Backoff, jittered},
    tasks::{Task, Tasks},
};
