// SPDX-License-Identifier: Apache-2.0
//! Keep network services and endpoints, as nsmgr and its registry do together.
//!
//! Policies are on: a call needs the `path` header with a valid chain of tokens, and a name belongs to the SPIFFE id that
//! registered it first, until that one unregisters it. An endpoint that is not registered again in time is dropped one call
//! deadline before its expiry, as NSM's registries do. Endpoints come with the descriptor of their socket; whoever finds one gets
//! it beside the answer.

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
