// SPDX-License-Identifier: Apache-2.0

//! The interface of a registry, so that its users can be tested without one.

use std::{future::Future, path::Path};

use futures::stream::BoxStream;

use super::{Error, TokenPath};
use crate::api::pb::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointResponse};

/// Answers of Find. With `watch` it may end at any time, with or without an error, and has no item
/// while nothing changes.
pub type Found = BoxStream<'static, Result<NetworkServiceEndpointResponse, Error>>;

/// A registry of network services and their endpoints. Every call ends within a deadline of the
/// implementation.
pub trait Registry: Clone + Send + Sync + 'static {
    /// Registers a network service, or replaces the one of this name.
    fn register_service(&self, service: NetworkService) -> impl Future<Output = Result<(), Error>> + Send;

    /// The network service with exactly this name.
    fn find_service(&self, name: &str) -> impl Future<Output = Result<Option<NetworkService>, Error>> + Send;

    /// Registers an endpoint, or refreshes it. `socket` is the file on which it listens: its
    /// descriptor is sent along, and the URL names it; without it the endpoint's own URL is
    /// registered. Returns the endpoint as registered, and the path for the next call.
    fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> impl Future<Output = Result<(NetworkServiceEndpoint, TokenPath), Error>> + Send;

    /// Unregisters an endpoint. Unregistering an unknown one is not an error.
    fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Finds the endpoints that match: the present ones, and with `watch` every later change.
    fn find(
        &self,
        like: NetworkServiceEndpoint,
        watch: bool,
    ) -> impl Future<Output = Result<Found, Error>> + Send;
}
