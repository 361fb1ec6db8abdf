// SPDX-License-Identifier: Apache-2.0
//! Listen on the unix socket of the probes.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use super::Health;
use crate::chain::{Task, Tasks};

/// Calls in progress per connection at most. A probe makes one.
const CALLS: u32 = 16;

/// Why the health socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The directory cannot be made. Mount a writable volume there.
    #[error("cannot create the directory of {path}")]
    Directory {
        /// The socket.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// Something that is not a socket is in the way. It is left alone: remove it.
    #[error("{path} exists and is not a socket")]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be bound; the directory may be read-only or belong to another user.
    #[error("cannot listen on {path}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

/// The health server. Dropping it stops the server and removes the socket.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
    /// Device and inode of the socket.
    file: (u64, u64),
    _task: Task,
}

impl Drop for Served {
    fn drop(&mut self) {
        // A successor may have put its own there.
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Serve health on a unix socket, without TLS. A socket left by an earlier process is removed, its directory created.
///
/// # Errors
/// [`ServeError`]; nothing is served then.
pub fn serve(path: &Path, health: &Health, tasks: &Tasks) -> Result<Served, ServeError> {
    let path = path.to_owned();
    let listener = bind(&path)?;
    let file = identity(&path).map_err(|source| ServeError::Listen { path: path.clone(), source })?;
    let server = Server::builder().max_concurrent_streams(CALLS).add_service(health.server());
    let task = tasks.guarded(async move {
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::error!(error = &error as &(dyn std::error::Error + 'static), "health server ended");
        }
    });
    Ok(Served { path, file, _task: task })
}

/// Device and inode of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn bind(path: &Path) -> Result<UnixListener, ServeError> {
    let owned = || path.to_owned();
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|source| ServeError::Directory { path: owned(), source })?;
    }
    let listen = |source| ServeError::Listen { path: owned(), source };
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path).map_err(listen)?,
        Ok(_) => return Err(ServeError::Occupied { path: owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(listen(error)),
    }
    UnixListener::bind(path).map_err(listen)
}
