// SPDX-License-Identifier: Apache-2.0
//! Writes each event as one line of JSON with the keys of Meridio's logs.
//!
//! ```json
//! {"severity":"info","timestamp":"2026-11-24T18:10:00.123+00:00","service_id":"Meridio-proxy.kernel","message":"…","version":"1.0.0","extra_data":{…}}
//! ```
//! `extra_data` holds the fields of the event and of the spans around it; an inner field hides an
//! outer one of the same name. A line that cannot be written is lost, because there is no other
//! place to report it.

use std::{
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context, registry::LookupSpan};

use super::{
    events::{self, Events},
    fields::Fields,
};

/// Version of the line's format.
const FORMAT: &str = "1.0.0";

/// A field with this name and the value `true` raises an error to severity `critical`: the process
/// ends because of it.
pub const CRITICAL: &str = "critical";

/// Layer that writes lines to `W`.
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
    service: &'static str,
    events: Option<Events>,
}

impl<W> JsonLines<W> {
    /// Lines of a service, such as `Meridio-proxy`, written to `writer`, one write per line.
    pub fn new(service: &'static str, writer: W) -> Self {
        Self { writer, service, events: None }
    }

    /// Also notes lines from INFO up.
    pub(super) fn noting(self, events: Option<Events>) -> Self {
        Self { events, ..self }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    severity: &'static str,
    timestamp: String,
    service_id: String,
    message: String,
    version: &'static str,
    extra_data: &'a Map<String, Value>,
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.0.extend(fields.0.clone());
            }
        }
        event.record(&mut all);
        self.write(event.metadata(), all.0);
    }
}

impl<W: for<'a> MakeWriter<'a>> JsonLines<W> {
    fn write(&self, metadata: &Metadata<'_>, mut extra: Map<String, Value>) {
        let critical = extra.remove(CRITICAL) == Some(Value::Bool(true));
        let message = extra.remove("message").as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let line = Line {
            severity: severity(*metadata.level(), critical),
            timestamp: timestamp(SystemTime::now()),
            service_id: service_id(self.service, metadata.target(), &mut extra),
            message,
            version: FORMAT,
            extra_data: &extra,
        };
        if let Some(events) = self.events.as_ref().filter(|_| *metadata.level() <= Level::INFO) {
            let part = line.service_id.rsplit('.').next().unwrap_or_default();
            events.push(events::Event::new(&line.timestamp, line.severity, part, &line.message, &extra));
        }
        if let Ok(mut bytes) = serde_json::to_vec(&line) {
            bytes.push(b'\n');
            let _lost = self.writer.make_writer_for(metadata).write_all(&bytes);
        }
    }
}

const fn severity(level: Level, critical: bool) -> &'static str {
    match level {
        Level::ERROR if critical => "critical",
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// RFC 3339 with milliseconds, in UTC with a numeric offset, as Meridio writes it.
pub(crate) fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = UNIX_EPOCH + Duration::new(since.as_secs(), since.subsec_millis() * 1_000_000);
    prost_types::Timestamp::from(millis).to_string().replace('Z', "+00:00")
}

/// `<service>.<floor>` for this crate; other crates are named as `subsystem`.
fn service_id(service: &str, target: &str, extra: &mut Map<String, Value>) -> String {
    let mut modules = target.split("::");
    match (modules.next(), modules.next()) {
        (Some("nsm"), Some(floor)) => format!("{service}.{floor}"),
        (Some("nsm" | "proxy" | "meridio_lab" | "lab"), None) => service.to_owned(),
        (foreign, _) => {
            extra.insert("subsystem".into(), foreign.unwrap_or_default().into());
            service.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;
    use crate::{app::log::fields::MAX_TEXT, testing::Lines};

    fn written(with: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let layer = JsonLines::new("Meridio-proxy", lines.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), with);
        lines.all()
    }

    fn lines(with: impl FnOnce()) -> Vec<Value> {
        written(with).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn g02_a_line_has_meridios_keys_in_meridios_order() {
        let line = written(|| {
            tracing::info!(target: "nsm::kernel::apply", mtu = 1500, name = "a\nb", up = true, "changed");
        });
        let [line] = line.as_slice() else { panic!("{line:?}") };
        let (head, tail) = line.split_once("\"timestamp\":\"").unwrap();
        assert_eq!(head, "{\"severity\":\"info\",");
        let (time, tail) = tail.split_once('"').unwrap();
        assert!(time.ends_with("+00:00") && time.contains('T'), "{time}");
        let expected = ",\"service_id\":\"Meridio-proxy.kernel\",\"message\":\"changed\",\"version\":\"1.0.0\",\
             \"extra_data\":{\"mtu\":1500,\"name\":\"a\\nb\",\"up\":true}}";
        assert_eq!(tail, expected);
    }

    #[test]
    fn b29_severities_are_those_of_meridio() {
        let lines = lines(|| {
            tracing::error!(critical = true, "a");
            tracing::error!("b");
            tracing::warn!("c");
            tracing::debug!("d");
            tracing::trace!("e");
        });
        let severities: Vec<_> = lines.iter().map(|line| line["severity"].as_str().unwrap()).collect();
        assert_eq!(severities, ["critical", "error", "warning", "debug", "debug"]);
        assert_eq!(lines[0]["extra_data"], serde_json::json!({}));
    }

    #[test]
    fn fields_of_spans_are_there_and_inner_ones_win() {
        let lines = lines(|| {
            let outer = tracing::info_span!("call", id = "a", late = tracing::field::Empty, otel.name = "x");
            outer.record("late", 7);
            outer.in_scope(|| {
                tracing::info_span!("row", id = "b").in_scope(|| tracing::info!(inner = 1, "hello"));
            });
            tracing::info!("outside");
        });
        assert_eq!(lines[0]["extra_data"], serde_json::json!({"id": "b", "late": 7, "inner": 1}));
        assert_eq!(lines[1]["extra_data"], serde_json::json!({}));
    }

    #[test]
    fn lines_of_other_crates_are_marked() {
        let lines = lines(|| tracing::warn!(target: "h2::client", "odd"));
        assert_eq!(lines[0]["service_id"], "Meridio-proxy");
        assert_eq!(lines[0]["extra_data"], serde_json::json!({"subsystem": "h2"}));
    }

    #[test]
    fn long_texts_are_cut_and_errors_have_their_sources() {
        let outer = Outer(std::io::Error::other("inner"));
        let lines = lines(|| {
            tracing::info!(text = %"é".repeat(5000), "long");
            tracing::info!(error = &outer as &(dyn std::error::Error + 'static), "failed");
        });
        let text = lines[0]["extra_data"]["text"].as_str().unwrap();
        assert!(text.len() <= MAX_TEXT + '…'.len_utf8() && text.ends_with('…'), "{}", text.len());
        assert_eq!(lines[1]["extra_data"]["error"], "outer: inner");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_timestamp_has_milliseconds() {
        let at = UNIX_EPOCH + Duration::from_micros(1_795_543_800_123_456);
        assert_eq!(timestamp(at), "2026-11-24T18:10:00.123+00:00");
    }
}
