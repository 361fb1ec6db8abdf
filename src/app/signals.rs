// SPDX-License-Identifier: Apache-2.0
//! Waits for the signals that end a program: SIGINT, SIGHUP, SIGTERM and SIGQUIT, as in NSM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the process, caught from its creation on.
#[derive(Debug)]
pub(crate) struct Termination {
    int: Signal,
    hup: Signal,
    term: Signal,
    quit: Signal,
}

impl Termination {
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for one of them. Cancel-safe.
    pub(crate) async fn received(&mut self) -> Ending {
        let (name, number) = tokio::select! {
            _ = self.hup.recv() => ("SIGHUP", 1),
            _ = self.int.recv() => ("SIGINT", 2),
            _ = self.quit.recv() => ("SIGQUIT", 3),
            _ = self.term.recv() => ("SIGTERM", 15),
        };
        Ending { name, number }
    }
}

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its name, as in `SIGTERM`.
    pub name: &'static str,
    number: u8,
}

impl Ending {
    /// The exit code of a process ended by this signal, as in shells.
    pub fn exit_code(self) -> u8 {
        128 + self.number
    }
}
