// SPDX-License-Identifier: Apache-2.0

//! A server that ends each of its connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{Address, Identity, Listener};

/// An empty SETTINGS frame, with which a server begins.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The way in which a connection ends.
#[derive(Clone, Copy)]
pub(crate) enum End {
    /// It is closed.
    Close,
    /// As grpc-go does with a client that pings too often.
    TooManyPings,
}

/// The server, until it is dropped.
pub(crate) struct Abrupt {
    pub(crate) address: Address,
    connections: Arc<AtomicUsize>,
    _server: AbortOnDropHandle<()>,
}

impl Abrupt {
    /// Accepts over TCP, and ends each of the first `times` connections `after` it was made. Later
    /// ones stay.
    pub(crate) async fn start(identity: Identity, end: End, after: Duration, times: usize) -> Self {
        let listener = Listener::bind(&Address::Tcp("127.0.0.1:0".into()), identity).await.unwrap();
        let address = listener.address().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let serve = listener.for_each_concurrent(None, move |accepted| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                let Ok(mut accepted) = accepted else { return };
                accepted.stream.write_all(&SETTINGS).await.unwrap();
                accepted.stream.flush().await.unwrap();
                if number >= times {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(after).await;
                if let End::TooManyPings = end {
                    accepted.stream.write_all(&goaway(11, b"too_many_pings")).await.unwrap();
                }
                let _closed = accepted.stream.shutdown().await;
            }
        });
        Self { address, connections, _server: AbortOnDropHandle::new(tokio::spawn(serve)) }
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A GOAWAY frame after which no stream is served.
fn goaway(reason: u32, debug: &[u8]) -> Vec<u8> {
    let length = u32::try_from(8 + debug.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], 7, 0, 0, 0, 0, 0];
    [&head[..], &0_u32.to_be_bytes(), &reason.to_be_bytes(), debug].concat()
}
