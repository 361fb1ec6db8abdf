// SPDX-License-Identifier: Apache-2.0

//! Serves routes over mutual TLS, on a socket in a directory of its own or on a given address.
//!
//! The directory has a random name, `<parent>/<name><random>/listen.on`, so that a socket of
//! another user cannot be in the way. Directories of killed predecessors of the same name are
//! removed.

mod directory;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::directory::{Directory, SOCKET};
use crate::{
    server::serve,
    task::{Task, Tasks},
    transport::{Address, Identity, ListenError, Listener},
};

/// Time for calls in progress when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// The reason why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No directory can be created for the socket. Mount a writable volume there.
    #[error("cannot make a directory for the socket in {parent}")]
    Directory {
        /// The parent directory.
        parent: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The socket cannot be listened on.
    #[error("cannot listen")]
    Listen(#[from] ListenError),
}

/// A running server. Dropping it cuts every connection and removes the socket.
///
/// ```
/// use std::time::Duration;
///
/// use nsm::{
///     app, server,
///     chain::Chain,
///     server::monitor::Connections,
///     task::Tasks,
///     testing::Authority,
///     transport::Dialer,
/// };
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let authority = Authority::new("example.org");
/// # let parent = tempfile::tempdir()?;
/// # let parent = parent.path();
/// let routes = server::Endpoint::new(Chain::new().build()?, Connections::default()).routes();
/// let server = app::Server::below(parent, "web", authority.identity("web"), routes, &tasks).await?;
///
/// let dialer = Dialer {
///     address: server.address().clone(),
///     identity: authority.identity("shop"),
///     dial_timeout: Duration::from_secs(5),
///     token_lifetime: Duration::from_secs(600),
/// };
/// let soon = Instant::now() + Duration::from_secs(10);
/// let wire = dialer.dial(soon).await?;
/// assert_eq!(wire.peer().id(), "spiffe://example.org/web");
/// server.stop(soon).await;
/// wire.closed().await;
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Server {
    address: Address,
    stop: CancellationToken,
    ended: watch::Receiver<bool>,
    _task: Task,
    _directory: Option<Directory>,
}

impl Server {
    /// Listens on a unix socket in a new directory below `parent` and serves over mutual TLS.
    ///
    /// # Errors
    /// [`ServeError`]; nothing is left behind then.
    pub async fn below(
        parent: &Path,
        name: &str,
        identity: Identity,
        routes: Routes,
        tasks: &Tasks,
    ) -> Result<Self, ServeError> {
        Directory::clear(parent, name).await;
        let directory = Directory::make(parent, name)?;
        let address = Address::Unix(directory.path().join(SOCKET));
        let server = Self::on(&address, identity, routes, tasks).await?;
        Ok(Self { _directory: Some(directory), ..server })
    }

    /// Listens on an address and serves over mutual TLS.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub async fn on(
        address: &Address,
        identity: Identity,
        routes: Routes,
        tasks: &Tasks,
    ) -> Result<Self, ServeError> {
        let listener = Listener::bind(address, identity).await?;
        let address = listener.address().map_err(|error| ListenError::Bind(address.clone(), error))?;
        let stop = CancellationToken::new();
        let (end, ended) = watch::channel(false);
        let stopped = stop.clone().cancelled_owned();
        let task = tasks.guarded(async move {
            serve(listener, routes, stopped, DRAIN).await;
            end.send_replace(true);
        });
        Ok(Self { address, stop, ended, _task: task, _directory: None })
    }

    /// The address that it listens on; with a port of the system's choice if port 0 was given.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Stops listening, ends the streams, and gives calls in progress a second.
    pub async fn stop(mut self, deadline: Instant) {
        self.stop.cancel();
        let ended = self.ended.wait_for(|ended| *ended);
        if timeout_at(deadline, ended).await.is_err() {
            tracing::warn!("the endpoint's server has not ended in time");
        }
    }
}
