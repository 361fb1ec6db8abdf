// SPDX-License-Identifier: Apache-2.0
//! The registry of network services and endpoints, as nsmgr and its registry serve it together.
//!
//! Policies are on: a call needs the `path` header with a valid chain of tokens, and a name belongs
//! to the SPIFFE id that registered it first, until that one unregisters it. An endpoint that is
//! not registered again in time is dropped one call deadline before its expiry, as in NSM's
//! registries. Endpoints come with the descriptor of their socket; a client that finds one receives
//! the descriptor beside the answer.

mod authorize;
mod endpoints;
mod matching;
mod services;
mod store;
#[cfg(test)]
mod tests;

pub use self::{
    authorize::Owners,
    endpoints::{Endpoints, Registered},
    matching::{candidates, endpoint_matches, service_matches},
    services::Services,
    store::{Change, Entry, Store},
};
