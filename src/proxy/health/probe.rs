// SPDX-License-Identifier: Apache-2.0
//! Queries a health socket for one service name, as `grpc_health_probe` does.

use std::{path::Path, time::Duration};

use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The reason why a probe was not answered SERVING.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens on the socket, or it did not answer in time. The proxy is starting, stuck or
    /// gone.
    #[error("cannot connect to {socket}")]
    Connect {
        /// The queried socket.
        socket: String,
        /// The error of the connection.
        #[source]
        source: tower::BoxError,
    },
    /// The server answered with an error; NotFound means that it has no service of this name.
    #[error("{0}")]
    Call(Box<tonic::Status>),
    /// The service is not healthy. The server's log has the reason.
    #[error("{0}")]
    Unhealthy(&'static str),
}

impl ProbeError {
    /// The exit code, the same as that of `grpc_health_probe`.
    pub const fn code(&self) -> u8 {
        match self {
            ProbeError::Connect { .. } => 2,
            ProbeError::Call(_) => 3,
            ProbeError::Unhealthy(_) => 4,
        }
    }
}

/// Checks a service on a unix socket; `limit` is the timeout of each of connect and call.
///
/// # Errors
/// [`ProbeError`] unless the answer is SERVING.
pub async fn probe(socket: &Path, service: &str, limit: Duration) -> Result<(), ProbeError> {
    let connect =
        |source: tower::BoxError| ProbeError::Connect { socket: socket.display().to_string(), source };
    let endpoint =
        Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(|e| connect(e.into()))?;
    let channel = match timeout(limit, endpoint.connect()).await {
        Ok(connected) => connected.map_err(|error| connect(error.into()))?,
        Err(elapsed) => return Err(connect(elapsed.into())),
    };
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = match timeout(limit, HealthClient::new(channel).check(request)).await {
        Ok(answer) => answer.map_err(|status| ProbeError::Call(Box::new(status)))?,
        Err(elapsed) => return Err(connect(elapsed.into())),
    };
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(ProbeError::Unhealthy(other.as_str_name())),
    }
}
