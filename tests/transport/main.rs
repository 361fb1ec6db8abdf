// SPDX-License-Identifier: Apache-2.0

//! What the edge says to bad input: each case ends with a status that names the thing, and leaves the state as it was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod identity;
mod world;
