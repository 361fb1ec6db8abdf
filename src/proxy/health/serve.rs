// SPDX-License-Identifier: Apache-2.0
//! Listens on the unix socket of the probes.

use std::{future::pending, path::Path, time::Duration};

use tonic::service::Routes;

use super::Health;
use crate::{
    server,
    task::{Task, Tasks},
    transport::{Address, ListenError, Listener},
};

/// The health server. Dropping it stops the server and removes the socket.
#[derive(Debug)]
pub struct Served {
    _task: Task,
}

/// Serves health on a unix socket, without TLS. Creates its directory; replaces a socket that has
/// no listener any more.
///
/// # Errors
/// [`ListenError`]; nothing is served then.
pub async fn serve(path: &Path, health: &Health, tasks: &Tasks) -> Result<Served, ListenError> {
    let listener = Listener::bind_plain(&Address::Unix(path.to_owned())).await?;
    let routes = Routes::new(health.server());
    Ok(Served { _task: tasks.guarded(server::serve(listener, routes, pending(), Duration::ZERO)) })
}
