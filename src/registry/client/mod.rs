// SPDX-License-Identifier: Apache-2.0

//! Calls the registry behind nsmgr.

use std::{path::Path, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use rustix::fs::{Mode, OFlags};
use tokio::time::Instant;
use tonic::{Request, Response, metadata::MetadataMap};

use super::{Error, Found, Registry, TokenPath};
use crate::{
    api::{
        Inode,
        pb::registry::{
            NetworkService, NetworkServiceEndpoint, NetworkServiceEndpointQuery, NetworkServiceQuery,
            network_service_endpoint_registry_client::NetworkServiceEndpointRegistryClient as Endpoints,
            network_service_registry_client::NetworkServiceRegistryClient as Services,
        },
    },
    transport::{Dialer, SendFds, Wire, origin},
};

/// Maximum number of network services read from one answer.
const SERVICES: usize = 64;

/// A registry reached through nsmgr. Each call dials, because its token and its descriptor belong
/// to one connection.
#[derive(Clone, Debug)]
pub struct Client {
    dialer: Dialer,
    deadline: Duration,
}

impl Client {
    /// Reaches the registry through `dialer`. `deadline` is the time for a call, with its dial.
    /// nsmgr drops an endpoint this much before its registration lapses, so do not make it long.
    pub fn new(dialer: Dialer, deadline: Duration) -> Self {
        Self { dialer, deadline }
    }

    async fn wire(&self, deadline: Instant) -> Result<Wire, Error> {
        Ok(self.dialer.dial(deadline).await?)
    }

    /// A Register or Unregister, with its token, path and descriptor, on a new wire.
    async fn prepare(
        &self,
        mut endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: &TokenPath,
    ) -> Result<(Wire, Request<NetworkServiceEndpoint>), Error> {
        let deadline = Instant::now() + self.deadline;
        let fds = socket.map(|socket| pass(socket, &mut endpoint)).transpose()?;
        let wire = self.wire(deadline).await?;
        let mut request = wire.call(endpoint, Some(deadline), self.dialer.token_lifetime)?;
        path.write(request.metadata_mut());
        fds.map(|fds| request.extensions_mut().insert(fds));
        Ok((wire, request))
    }
}

/// Opens the file of a socket to pass it on, and names it in the endpoint's URL. It is opened each
/// time: a socket that was created again has another inode.
fn pass(socket: &Path, endpoint: &mut NetworkServiceEndpoint) -> Result<SendFds, Error> {
    let failed = |source| Error::Socket { path: socket.to_owned(), source };
    let opened = rustix::fs::open(socket, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let fd = opened.map_err(|errno| failed(errno.into()))?;
    endpoint.url = Inode::of(&fd).map_err(failed)?.to_string();
    Ok(SendFds(vec![Arc::new(fd)]))
}

/// The path for the next call: the returned one, or the one that was sent if none was returned.
fn returned(metadata: &MetadataMap, sent: TokenPath) -> TokenPath {
    match TokenPath::read(metadata) {
        Ok(path) => path.unwrap_or(sent),
        Err(error) => {
            tracing::warn!(%error, "the registry sent a path that is not one; starting over");
            TokenPath::default()
        }
    }
}

impl Registry for Client {
    async fn register_service(&self, service: NetworkService) -> Result<(), Error> {
        let deadline = Instant::now() + self.deadline;
        let wire = self.wire(deadline).await?;
        let mut request = wire.call(service, Some(deadline), self.dialer.token_lifetime)?;
        TokenPath::default().write(request.metadata_mut());
        Services::with_origin(wire, origin()).register(request).await?;
        Ok(())
    }

    async fn find_service(&self, name: &str) -> Result<Option<NetworkService>, Error> {
        let deadline = Instant::now() + self.deadline;
        let wire = self.wire(deadline).await?;
        let like = NetworkService { name: name.to_owned(), ..NetworkService::default() };
        let query = NetworkServiceQuery { network_service: Some(like), watch: false };
        let request = wire.call(query, Some(deadline), self.dialer.token_lifetime)?;
        let mut found =
            Services::with_origin(wire, origin()).find(request).await?.into_inner().take(SERVICES);
        while let Some(response) = found.try_next().await? {
            if let Some(service) =
                response.network_service.filter(|service| service.name == name && !response.deleted)
            {
                return Ok(Some(service));
            }
        }
        Ok(None)
    }

    async fn register(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(NetworkServiceEndpoint, TokenPath), Error> {
        let (wire, request) = self.prepare(endpoint, socket, &path).await?;
        let answer = Endpoints::with_origin(wire, origin()).register(request).await?;
        let path = returned(answer.metadata(), path);
        Ok((answer.into_inner(), path))
    }

    async fn unregister(
        &self,
        endpoint: NetworkServiceEndpoint,
        socket: Option<&Path>,
        path: TokenPath,
    ) -> Result<(), Error> {
        let (wire, request) = self.prepare(endpoint, socket, &path).await?;
        Endpoints::with_origin(wire, origin()).unregister(request).await?;
        Ok(())
    }

    async fn find(&self, like: NetworkServiceEndpoint, watch: bool) -> Result<Found, Error> {
        let deadline = Instant::now() + self.deadline;
        let wire = self.wire(deadline).await?;
        let query = NetworkServiceEndpointQuery { network_service_endpoint: Some(like), watch };
        let request = wire.call(query, (!watch).then_some(deadline), self.dialer.token_lifetime)?;
        // Go's servers send nothing, not even headers, before the first match: opening is part of
        // the stream.
        let open = async move {
            Endpoints::with_origin(wire, origin()).find(request).await.map(Response::into_inner)
        };
        Ok(futures::stream::once(open).try_flatten().map_err(Error::from).boxed())
    }
}

#[cfg(test)]
mod tests;
