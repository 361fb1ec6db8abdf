// SPDX-License-Identifier: Apache-2.0
//! Collect log lines in memory.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::{fmt::MakeWriter, prelude::*};

use super::layer;
use crate::proxy::config::LogLevel;

/// What was written. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// The lines that `with` logs at INFO on this thread.
pub(crate) fn logged(with: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let (layer, _verbosity) = layer(LogLevel::Info, lines.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), with);
    lines.all()
}
