// SPDX-License-Identifier: Apache-2.0

//! Name what a registry does, so that what stands on it can be tested without one.

use std::{future::Future, path::Path};

use futures::stream::BoxStream;

use super::{Error, TokenPath};
use crate::api::pb::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointResponse};

/// Answers of Find. With `watch` it may end at any time, with or without an error, and says nothing while nothing changes.
pub type Found = BoxStream<'static, Result<NetworkServiceEndpointResponse, Error>>;

/// A registry of network services and their endpoints. Every call ends within a deadline of the implementation.
pub trait Registry: Clone + Send + Sync + 'static {
    /// Register a network service, or replace the one of this name.
    fn register_service(&self, service: NetworkService) -> impl Future<Output = Result<(), Error>> + Send;

    /// The network service with exactly this name.
    fn find_service(&self, name: &str) -> impl Future<Output = Result<Option<NetworkService>, Error>> + Send;

    /// Register an endpoint, or refresh it. `socket` is the file that it listens on: its descriptor goes along, and the URL names it;
    /// without it the endpoint's own URL counts. Answers with the endpoint as registered, and the path for the next call.
    fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> impl Future<Output = Result<(NetworkServiceEndpoint, TokenPath), Error>> + Send;

    /// Unregister an endpoint. Unregistering one that is unknown is no error.
    fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Find the endpoints that match: those of now, and with `watch` every change from then on.
    fn find(
        &self,
        like: NetworkServiceEndpoint,
        watch: bool,
    ) -> impl Future<Output = Result<Found, Error>> + Send;
}
