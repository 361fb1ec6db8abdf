// SPDX-License-Identifier: Apache-2.0
//! Reads spans from OTLP's JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{attributes, list};

/// A span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The process that has recorded it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace to which it belongs.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// Id of the span in which it began; empty for a root.
    pub parent: String,
    /// Its attributes that are texts.
    pub attributes: BTreeMap<String, String>,
}

/// The spans of a batch in OTLP's JSON.
pub(super) fn read(batch: &Value) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in list(batch, "resourceSpans") {
        let service = attributes(&resource["resource"]).remove("service.name").unwrap_or_default();
        for span in list(resource, "scopeSpans").flat_map(|scope| list(scope, "spans")) {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            spans.push(Span {
                service: service.clone(),
                name: text("name"),
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                attributes: attributes(span),
            });
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_spans_of_its_services() {
        let batch = serde_json::json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "nsmgr"}}]},
            "scopeSpans": [{"spans": [{
                "traceId": "1", "spanId": "3", "parentSpanId": "2", "name": "Request",
                "attributes": [{"key": "id", "value": {"stringValue": "a"}}, {"key": "n", "value": {"intValue": "1"}}],
            }]}],
        }]});
        let text = |text: &str| text.to_owned();
        let span = Span {
            service: text("nsmgr"),
            name: text("Request"),
            trace: text("1"),
            id: text("3"),
            parent: text("2"),
            attributes: [(text("id"), text("a"))].into(),
        };
        assert_eq!(read(&batch), [span]);
        assert_eq!(read(&serde_json::json!({"resourceSpans": 1})), []);
    }
}
