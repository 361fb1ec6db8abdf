// SPDX-License-Identifier: Apache-2.0
//! Keeps the last lines of the log, from INFO up, for observers.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Maximum number of events.
pub(crate) const MAX_EVENTS: usize = 256;
/// Maximum length of a text in an event, in characters.
const MAX_TEXT: usize = 256;
/// Maximum number of fields of an event.
const MAX_FIELDS: usize = 16;
/// The fields that name a cause, the best first.
const CAUSES: [&str; 6] = ["error", "reason", "refusal", "what", "why", "on"];

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Event {
    /// When it was logged.
    pub(crate) time: String,
    /// `critical`, `error`, `warning` or `info`.
    pub(crate) level: String,
    /// The part of the proxy, as in the log.
    pub(crate) part: String,
    /// Its message.
    pub(crate) message: String,
    /// The cause, if it has one.
    pub(crate) cause: Option<String>,
    /// The other fields.
    pub(crate) fields: Map<String, Value>,
}

/// The last events. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events(Arc<Mutex<VecDeque<Event>>>);

impl Events {
    /// The events, from the first to the last.
    #[cfg(any(feature = "proxy", test))]
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) fn push(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }
}

impl Event {
    /// A line with these fields; they are cut, because a peer may have written them.
    pub(super) fn new(
        time: &str,
        level: &str,
        part: &str,
        message: &str,
        fields: &Map<String, Value>,
    ) -> Self {
        let cause = CAUSES.into_iter().find_map(|name| Some((name, fields.get(name)?.as_str()?)));
        let others = fields.iter().filter(|(name, _)| cause.is_none_or(|(cause, _)| cause != name.as_str()));
        let others = others.map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.clone(), |text| cut(text).into());
            (name.clone(), value)
        });
        Self {
            time: time.to_owned(),
            level: level.to_owned(),
            part: part.to_owned(),
            message: cut(message),
            cause: cause.map(|(_, text)| cut(text)),
            fields: others.take(MAX_FIELDS).collect(),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;
    use crate::app::{
        log::{self, LogLevel},
        program::Program,
    };

    fn noted(with: impl FnOnce()) -> Vec<Event> {
        let events = Events::default();
        let (layer, _verbosity) =
            log::layer_of(Program::new("own"), LogLevel::Debug, std::io::sink, Some(events.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), with);
        events.all()
    }

    #[test]
    fn an_event_has_its_cause_and_its_fields() {
        log::testing::ask_all_subscribers();
        let events = noted(|| {
            tracing::info_span!("call", id = "a").in_scope(|| {
                tracing::warn!(target: "nsm::kernel::apply", error = "no room", mtu = 1500, "refused");
            });
            tracing::debug!("not noted");
            tracing::error!(critical = true, "over");
        });
        let [refused, over] = events.as_slice() else { panic!("{events:?}") };
        let of = |event: &Event| (event.level.clone(), event.message.clone(), event.cause.clone());
        assert_eq!(of(refused), ("warning".into(), "refused".into(), Some("no room".into())));
        assert_eq!(refused.part, "kernel");
        assert_eq!(Value::from(refused.fields.clone()), serde_json::json!({"id": "a", "mtu": 1500}));
        assert_eq!(of(over), ("critical".into(), "over".into(), None));
    }

    #[test]
    fn the_last_events_are_kept_and_long_ones_cut() {
        log::testing::ask_all_subscribers();
        let long = "é".repeat(5000);
        let events = noted(|| {
            for number in 0..MAX_EVENTS + 10 {
                tracing::info!(number, reason = long, text = long, "{long}");
            }
        });
        assert_eq!(events.len(), MAX_EVENTS);
        assert_eq!((&events[0].fields["number"], &events[255].fields["number"]), (&10.into(), &265.into()));
        assert!(serde_json::to_string(&events[0]).unwrap().len() < 2048);
    }
}
