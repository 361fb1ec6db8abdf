// SPDX-License-Identifier: Apache-2.0

//! Registration at NSM's registry, and discovery of other endpoints.
//!
//! [`Registry`] is the interface of a registry; [`Client`] calls one through nsmgr.
//! [`Registration`] keeps an endpoint registered for as long as it lives.
//! [`discovery`] follows the endpoints of others.

mod client;
pub mod discovery;
mod error;
mod offer;
pub(crate) mod path;
mod port;
mod registration;
mod schedule;
mod service;
mod state;
mod worker;

pub(crate) use self::schedule::{DEFAULT_LIFE, refresh_after};
pub use self::{
    client::Client,
    error::Error,
    offer::{Offer, Settings},
    path::{InvalidPath, TokenPath},
    port::{Found, Registry},
    registration::Registration,
    service::{ServiceOwner, ensure},
    state::State,
};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod twin;
