// SPDX-License-Identifier: Apache-2.0

//! Register at NSM's registry, stay registered, and find others.

pub mod path;
mod schedule;

pub use self::schedule::{DEFAULT_LIFE, LONGEST, SHORTEST, refresh_after};
