// SPDX-License-Identifier: Apache-2.0

//! Collects the lines of the proxy's log.

use nsm::{
    app::log::{self, LogLevel},
    testing::Lines,
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::prelude::*;

/// Collects the log of this thread at the most verbose level, in the format of the operator's log.
pub(crate) fn of_this_thread(lines: &Lines) -> DefaultGuard {
    let (layer, _verbosity) = log::layer("proxy", LogLevel::Trace, lines.clone());
    tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
}
