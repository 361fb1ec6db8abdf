// SPDX-License-Identifier: Apache-2.0

//! Tests the promises of a chain, one sentence each.
#![allow(clippy::unwrap_used)]

mod begin;
mod builder;
mod closing;
mod interleave;
mod laws;
mod metadata;
mod samples;
mod world;
