// SPDX-License-Identifier: Apache-2.0

//! Collects the lines of the proxy's log.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use nsm::proxy::{config::LogLevel, log};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{fmt::MakeWriter, prelude::*};

/// Lines of the log since it was last emptied. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Collects the log of this thread at the most verbose level, in the format of the operator's
    /// log.
    pub(crate) fn of_this_thread(&self) -> DefaultGuard {
        let (lines, _verbosity) = log::layer(LogLevel::Trace, self.clone());
        tracing::subscriber::set_default(tracing_subscriber::registry().with(lines))
    }

    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Number of lines with all of these texts.
    pub(crate) fn count(&self, texts: &[&str]) -> usize {
        self.0.lock().unwrap().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Waits at most ten seconds for a line with all of these texts.
    pub(crate) async fn says(&self, texts: &[&str]) -> Result<(), String> {
        for _ in 0..1000 {
            if self.count(texts) > 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let lines = self.0.lock().unwrap();
        let last = &lines[lines.len().saturating_sub(20)..];
        Err(format!("no line of the log has all of {texts:?}; the last were\n{}", last.join("\n")))
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(String::from_utf8_lossy(bytes).trim_end().to_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
