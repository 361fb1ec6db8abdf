// SPDX-License-Identifier: Apache-2.0

//! Records the names of spans.

use std::sync::{Arc, Mutex};

use tracing::{Subscriber, span};
use tracing_subscriber::{Layer, layer::Context};

/// Names of the spans that were opened.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<Vec<&'static str>>>);

impl Names {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap().contains(&name)
    }
}

impl<S: Subscriber> Layer<S> for Names {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.0.lock().unwrap().push(attributes.metadata().name());
    }
}
