// SPDX-License-Identifier: Apache-2.0
//! The log lines of a test.

use std::sync::OnceLock;

use tracing::{Dispatch, subscriber::NoSubscriber};
use tracing_subscriber::prelude::*;

use super::{LogLevel, layer};
use crate::testing::Lines;

/// Makes all subscribers decide whether a callsite is of interest.
///
/// While a process has one subscriber, the thread that reaches a callsite first decides for all,
/// and a thread without a subscriber turns it off. With a second one, all are queried.
pub(crate) fn ask_all_subscribers() {
    static SECOND: OnceLock<Dispatch> = OnceLock::new();
    SECOND.get_or_init(|| Dispatch::new(NoSubscriber::default()));
}

/// The lines that `with` logs at INFO on this thread.
pub(crate) fn logged(with: impl FnOnce()) -> Vec<String> {
    ask_all_subscribers();
    let lines = Lines::default();
    let (layer, _verbosity) = layer("own", LogLevel::Info, lines.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), with);
    lines.all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_collected_though_another_thread_was_first() {
        let shared = || tracing::info!("shared");
        let lines = logged(|| {
            std::thread::spawn(shared).join().unwrap();
            shared();
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}
