// SPDX-License-Identifier: Apache-2.0
//! Serves the state of the proxy by HTTP, on a loopback address or a unix socket.
//!
//! The listener is read-only, but for the level of the log. It is there before the kernel stage and
//! ends with the proxy; nothing else waits for it.
//!
//! # Bounds
//! - 32 connections; a silent one goes for a newcomer.
//! - One request for each connection, 5 s for its header and 10 s in all.
//! - 16 KiB of header, and 64 bytes of a body.

mod answers;
mod hosts;
mod page;
mod routes;
mod serve;

use std::{fs, os::unix::fs::DirBuilderExt};

pub(crate) use self::{
    answers::text,
    routes::{Admin, router},
    serve::{Served, serve},
};
use crate::{
    chain::causes,
    task::Tasks,
    transport::{Address, ListenError, Listener},
};

/// Starts to serve. An address that cannot be used costs a warning and nothing else.
pub(crate) async fn start(address: Option<&Address>, admin: Admin, tasks: &Tasks) -> Option<Served> {
    let address = address?;
    match listen(address).await {
        Ok(listener) => {
            tracing::info!(%address, "admin listener");
            Some(serve(listener, router(admin), tasks))
        }
        Err(error) => {
            let error = causes(&error);
            let fix = "set NSM_ADMIN_ADDRESS to a free address, or to nothing";
            tracing::warn!(%address, error, fix, "no admin listener");
            None
        }
    }
}

/// Only the user of the process can connect to a unix socket, or see it if its folder is new.
async fn listen(address: &Address) -> Result<Listener, ListenError> {
    if let Address::Unix(path) = address
        && let Some(folder) = path.parent()
    {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| ListenError::Folder(address.clone(), error))?;
    }
    Listener::bind_private(address).await
}

#[cfg(test)]
mod tests;
