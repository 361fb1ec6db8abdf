// SPDX-License-Identifier: Apache-2.0

//! Tests a chain behind a real socket.

mod calls;
mod ending;
mod streams;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::*;
use crate::{
    api::{
        Connection, Mechanism, MechanismKind, PathSegment,
        pb::{
            connection::{ConnectionEvent, ConnectionEventType, MonitorScopeSelector},
            networkservice::{NetworkServiceRequest, network_service_client::NetworkServiceClient},
        },
    },
    chain::{Call, Chain, Error, Reason, begin::BeginLayer},
    server::monitor::{self, Connections},
    task::Tasks,
    testing::{Authority, eventually, soon},
    transport::{Address, Caller, Dialer, Listener, SendFds, Wire, origin},
};

const LIFETIME: Duration = Duration::from_secs(600);

/// A call, as received by the chain.
#[derive(Clone, Debug)]
struct Received {
    call: Call,
    caller: Caller,
    trace: Option<TraceContext>,
    left: Duration,
}

/// The end of the chain, which acts by the connection's id; see `end`.
#[derive(Clone)]
struct End {
    received: Arc<Mutex<Vec<Received>>>,
    finished: Arc<Mutex<usize>>,
    gate: Arc<Semaphore>,
}

impl End {
    async fn end(self, call: Call) -> Result<Box<Connection>, Error> {
        let context = call.context();
        let received = Received {
            caller: context.extensions.get::<Caller>().cloned().expect("a caller"),
            trace: context.extensions.get().cloned(),
            left: context.left(),
            call: call.clone(),
        };
        self.received.lock().unwrap().push(received);
        match &*call.connection().id {
            "denied" => return Err(Reason::Denied("no sufficient privileges".into()).into()),
            "exhausted" => return Err(Reason::Exhausted("no address left".into()).into()),
            "slow" => drop(self.gate.acquire().await),
            _ => {}
        }
        *self.finished.lock().unwrap() += 1;
        Ok(call.into_connection())
    }
}

struct World {
    authority: Authority,
    address: Address,
    end: End,
    connections: Connections,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(Duration::from_secs(5), |listener| listener).await
    }

    async fn with(drain: Duration, change: impl FnOnce(Listener) -> Listener) -> Self {
        let authority = Authority::new("a.test");
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("nse.sock"));
        let listener = Listener::bind(&address, authority.identity("nse")).await.unwrap();
        let listener = change(listener);
        let end =
            End { received: Arc::default(), finished: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
        let tasks = Tasks::default();
        let connections = Connections::default();
        let last = end.clone();
        let chain = Chain::new()
            .with(BeginLayer::endpoint(tasks.clone()))
            .end(tower::service_fn(move |call| last.clone().end(call)))
            .build()
            .unwrap();
        let (_, health) = health().await;
        let services = Endpoint::new(chain, connections.clone()).routes().add_service(health);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, services, stopped, drain));
        Self { authority, address, end, connections, stop: Some(stop), server, tasks, _folder: folder }
    }

    async fn dial(&self) -> Wire {
        Wire::dial(&self.address, self.authority.svid("nsc"), soon()).await.unwrap()
    }

    fn received(&self) -> Vec<Received> {
        self.end.received.lock().unwrap().clone()
    }

    async fn request(&self, wire: &Wire, message: NetworkServiceRequest) -> Result<Connection, Status> {
        let request = wire.call(message, Some(soon()), LIFETIME)?;
        send(wire, request).await
    }

    /// Stops the server; returns how long that took.
    async fn stop(&mut self) -> Duration {
        let begin = Instant::now();
        drop(self.stop.take());
        timeout(Duration::from_secs(10), &mut self.server).await.expect("the server ends").unwrap();
        begin.elapsed()
    }
}

async fn send(wire: &Wire, request: tonic::Request<NetworkServiceRequest>) -> Result<Connection, Status> {
    Ok(NetworkServiceClient::with_origin(wire.clone(), origin()).request(request).await?.into_inner())
}

fn message(connection: Connection) -> NetworkServiceRequest {
    NetworkServiceRequest { connection: Some(connection), mechanism_preferences: vec![] }
}

fn named(id: &str) -> Connection {
    *Connection::named(id)
}
