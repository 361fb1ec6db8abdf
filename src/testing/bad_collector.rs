// SPDX-License-Identifier: Apache-2.0

//! OTLP receivers that take nothing.

use futures::StreamExt;
use tokio::net::TcpListener;

use crate::{task::Tasks, testing::accept};

/// The way in which a collector fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadCollector {
    /// The kernel accepts connections, and nothing answers.
    Hangs,
    /// No socket listens at its port.
    Refuses,
    /// Each connection is reset at its first bytes.
    Resets,
}

impl BadCollector {
    pub(crate) const ALL: [Self; 3] = [Self::Hangs, Self::Refuses, Self::Resets];

    /// Starts it until the tasks end. Returns the value for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(crate) async fn start(self, tasks: &Tasks) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        match self {
            Self::Hangs => tasks.spawn(async move {
                let _listener = listener;
                std::future::pending().await
            }),
            // Linux answers with a reset if a socket is closed that has unread bytes.
            Self::Resets => tasks.spawn(accept::tcp(listener).for_each(async |stream| {
                stream.unwrap().readable().await.unwrap();
            })),
            Self::Refuses => return address,
        };
        address
    }
}
