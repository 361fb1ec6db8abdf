// SPDX-License-Identifier: Apache-2.0

//! Creates a listening socket, and removes its file when it is no longer needed.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    task::{Context, Poll, ready},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tracing::warn;

use crate::transport::address::{Address, Socket};

/// The reason why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The folder of the socket cannot be created. Check its parent's permissions.
    #[error("cannot create the folder of {0}")]
    Folder(Address, #[source] io::Error),
    /// Another process listens on the socket. Stop it, or use another path.
    #[error("another process listens on {0}")]
    InUse(Address),
    /// The path is that of another file. Remove it, or use another path.
    #[error("there is a file at {0} that is no socket")]
    Occupied(Address),
    /// The socket file that an earlier process left cannot be removed. In a sticky folder only its
    /// owner can.
    #[error("cannot remove the socket that an earlier process left at {0}")]
    Stale(Address, #[source] io::Error),
    /// The system refused.
    #[error("cannot listen on {0}")]
    Bind(Address, #[source] io::Error),
}

/// A socket that listens.
pub(super) enum Listening {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// The file of a unix socket; removed on drop unless it has been replaced.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// A connection whose peer has not sent anything.
pub(super) struct Incoming {
    pub(super) socket: Socket,
    /// The process that connected; 0 if it is not visible from here.
    pub(super) pid: i32,
}

impl Incoming {
    fn over_unix(stream: UnixStream) -> io::Result<Self> {
        let pid = stream.peer_cred()?.pid().unwrap_or(0);
        Ok(Self { socket: stream.into(), pid })
    }
}

impl Listening {
    /// Listens on `address`; the file of a unix socket gets `mode`, if there is one.
    pub(super) async fn bind(address: &Address, mode: Option<u32>) -> Result<Self, ListenError> {
        let bind = |error| ListenError::Bind(address.clone(), error);
        match address {
            Address::Tcp(address) => TcpListener::bind(address.as_str()).await.map(Self::Tcp).map_err(bind),
            Address::Unix(path) => {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)
                        .map_err(|error| ListenError::Folder(address.clone(), error))?;
                }
                clear(address, path).await?;
                let listener = UnixListener::bind(path).map_err(bind)?;
                let inode = fs::symlink_metadata(path).map_err(bind)?.ino();
                let file = SocketFile { path: path.clone(), inode };
                if let Some(mode) = mode {
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(bind)?;
                }
                Ok(Self::Unix(listener, file))
            }
        }
    }

    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
            Self::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?.to_string())),
        }
    }

    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        Poll::Ready(match self {
            Self::Unix(listener, _) => {
                ready!(listener.poll_accept(cx)).and_then(|(stream, _)| Incoming::over_unix(stream))
            }
            Self::Tcp(listener) => {
                let accepted = ready!(listener.poll_accept(cx));
                accepted.and_then(|(stream, _)| Ok(Incoming { socket: stream.try_into()?, pid: 0 }))
            }
        })
    }
}

/// Frees the path: removes a socket that has no listener.
async fn clear(address: &Address, path: &Path) -> Result<(), ListenError> {
    let stale = |error| ListenError::Stale(address.clone(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(stale(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::Occupied(address.clone())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(stale),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // A full backlog is a listener too.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(stale(error)),
        _ => Err(ListenError::InUse(address.clone())),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}
