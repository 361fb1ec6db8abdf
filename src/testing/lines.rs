// SPDX-License-Identifier: Apache-2.0

//! Collects the lines of a log.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use tracing_subscriber::fmt::MakeWriter;

/// The lines that a subscriber of `tracing` has written. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Every line.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Adds a line that comes from elsewhere, for instance from the output of a process.
    pub fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// Removes every line.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Number of lines with all of these texts.
    pub fn count(&self, texts: &[&str]) -> usize {
        self.0.lock().unwrap().iter().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Waits at most ten seconds for a line with all of these texts.
    ///
    /// # Errors
    /// The last 20 lines, if there is none.
    pub async fn has(&self, texts: &[&str]) -> Result<(), String> {
        for _ in 0..1000 {
            if self.count(texts) > 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        let lines = self.all();
        let last = &lines[lines.len().saturating_sub(20)..];
        Err(format!("no line of the log has all of {texts:?}; the last were\n{}", last.join("\n")))
    }
}

/// Each write is one line or several.
impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.push(line.to_owned()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
