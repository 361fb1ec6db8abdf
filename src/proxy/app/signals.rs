// SPDX-License-Identifier: Apache-2.0
//! Wait for the signals that end the proxy: SIGINT, SIGHUP, SIGTERM and SIGQUIT, as in Meridio.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the process, caught from its creation on.
#[derive(Debug)]
pub(super) struct Termination {
    int: Signal,
    hup: Signal,
    term: Signal,
    quit: Signal,
}

impl Termination {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Wait for one of them and name it. Cancel safe.
    pub(super) async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.int.recv() => "SIGINT",
            _ = self.hup.recv() => "SIGHUP",
            _ = self.term.recv() => "SIGTERM",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}
