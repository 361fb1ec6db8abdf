// SPDX-License-Identifier: Apache-2.0
//! Accepts connections for servers without mTLS, with a pause when that fails.

use std::{io, time::Duration};

use futures::{Stream, stream};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::sleep,
};

/// Pause after an error, which lasts: most likely no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections to a unix socket. The stream never ends and has no errors.
pub fn unix(listener: UnixListener) -> impl Stream<Item = io::Result<UnixStream>> {
    stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), listener)),
                Err(error) => pause(&error).await,
            }
        }
    })
}

/// The connections to a port, in the same way.
pub fn tcp(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), listener)),
                Err(error) => pause(&error).await,
            }
        }
    })
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept connections");
    sleep(PAUSE).await;
}
