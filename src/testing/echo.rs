// SPDX-License-Identifier: Apache-2.0

//! Answers calls with the data that arrived beside them.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, service::Routes};

use super::Authority;
use crate::{
    api::{
        Connection,
        pb::{
            connection::{
                ConnectionEvent, MonitorScopeSelector,
                monitor_connection_server::{MonitorConnection, MonitorConnectionServer},
            },
            networkservice::{
                NetworkServiceRequest,
                network_service_server::{NetworkService, NetworkServiceServer},
            },
        },
    },
    server::serve,
    transport::{Address, Caller, Identity, Listener},
};

/// A peer that serves [`Echo`] until it is dropped.
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) events: watch::Sender<u32>,
    _server: AbortOnDropHandle<()>,
    _folder: tempfile::TempDir,
}

impl Endpoint {
    /// Serves as `identity` on a new unix socket.
    pub(crate) async fn unix(identity: Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("nsm.sock"));
        Self::on(address, folder, identity).await
    }

    /// Serves at `address` (port 0: any).
    pub(crate) async fn tcp(address: &str, identity: Identity) -> Self {
        Self::on(Address::Tcp(address.into()), tempfile::tempdir().unwrap(), identity).await
    }

    pub(crate) async fn of(authority: &Authority) -> Self {
        Self::unix(authority.identity("endpoint")).await
    }

    async fn on(address: Address, folder: tempfile::TempDir, identity: Identity) -> Self {
        let listener = Listener::bind(&address, identity).await.unwrap().keep_descriptors();
        let address = listener.address().unwrap();
        let (events, watched) = watch::channel(0);
        let echo = Echo { events: watched };
        let routes = Routes::new(NetworkServiceServer::new(echo.clone()));
        let routes = routes.add_service(MonitorConnectionServer::new(echo));
        let server = tokio::spawn(serve(listener, routes, std::future::pending(), Duration::ZERO));
        Self { address, events, _server: AbortOnDropHandle::new(server), _folder: folder }
    }
}

#[derive(Clone)]
struct Echo {
    events: watch::Receiver<u32>,
}

#[tonic::async_trait]
impl NetworkService for Echo {
    /// Answers the connection with labels about the call. A descriptor that its mechanism names
    /// goes back with the answer.
    async fn request(&self, request: Request<NetworkServiceRequest>) -> Result<Response<Connection>, Status> {
        let caller = Caller::of(&request)?;
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let signed = caller.token.as_ref().is_some_and(|token| caller.peer.signed(token.jwt()));
        let labels = [
            ("caller", caller.peer.id().to_owned()),
            ("signed", signed.to_string()),
            ("timeout", timeout.unwrap_or_default().to_owned()),
            ("serial", caller.svid.serial().to_owned()),
        ];
        let mut connection = request.into_inner().connection.unwrap_or_default();
        connection.labels.extend(labels.map(|(key, value)| (key.to_owned(), value)));
        if let Some(inode) = connection.mechanism.as_ref().and_then(|mechanism| mechanism.inode()) {
            let hub = caller.hub.ok_or_else(|| Status::internal("no descriptors here"))?;
            let fd = hub.take(inode, Instant::now() + Duration::from_secs(5)).await;
            let fd = fd.ok_or_else(|| Status::unknown(format!("{inode} did not arrive")))?;
            hub.send(Arc::new(fd))?;
        }
        Ok(Response::new(connection))
    }

    async fn close(&self, _: Request<Connection>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}

#[tonic::async_trait]
impl MonitorConnection for Echo {
    type MonitorConnectionsStream = Pin<Box<dyn Stream<Item = Result<ConnectionEvent, Status>> + Send>>;

    /// One event at once, and one whenever the test requests it.
    async fn monitor_connections(
        &self,
        _: Request<MonitorScopeSelector>,
    ) -> Result<Response<Self::MonitorConnectionsStream>, Status> {
        let events = tokio_stream::wrappers::WatchStream::new(self.events.clone());
        Ok(Response::new(Box::pin(events.map(|_| Ok(ConnectionEvent::default())))))
    }
}
