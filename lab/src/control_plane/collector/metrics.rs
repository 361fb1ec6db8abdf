// SPDX-License-Identifier: Apache-2.0
//! Reads metrics from OTLP's JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{attributes, list};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE` of OTLP.
const CUMULATIVE: u64 = 2;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// `service.name` of the process that has exported it.
    pub service: String,
    /// `service.instance.id` of that process.
    pub instance: String,
    /// The meter.
    pub meter: String,
    /// The metric.
    pub name: String,
    /// The kind of its values.
    pub kind: Kind,
    /// Attributes of the series that are texts.
    pub attributes: BTreeMap<String, String>,
    /// Begin of the series in nanoseconds, as written.
    pub start: String,
    /// The value; of a histogram, the number of its values.
    pub value: f64,
}

/// Kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The present value.
    Gauge,
    /// A sum since the begin of the series, or since the export before.
    Sum {
        /// Whether it only grows.
        monotonic: bool,
        /// Whether it is one since the begin.
        cumulative: bool,
    },
    /// The distribution of values.
    Histogram {
        /// Whether it is one since the begin.
        cumulative: bool,
    },
}

/// The values of a batch in OTLP's JSON.
pub(super) fn read(batch: &Value) -> Vec<Point> {
    let mut points = Vec::new();
    for resource in list(batch, "resourceMetrics") {
        let of = attributes(&resource["resource"]);
        let text = |key: &str| of.get(key).cloned().unwrap_or_default();
        for scope in list(resource, "scopeMetrics") {
            for metric in list(scope, "metrics") {
                let Some((kind, data)) = kind(metric) else { continue };
                points.extend(list(data, "dataPoints").map(|point| Point {
                    service: text("service.name"),
                    instance: text("service.instance.id"),
                    meter: scope["scope"]["name"].as_str().unwrap_or_default().to_owned(),
                    name: metric["name"].as_str().unwrap_or_default().to_owned(),
                    kind,
                    attributes: attributes(point),
                    start: point["startTimeUnixNano"].as_str().unwrap_or_default().to_owned(),
                    value: value(point),
                }));
            }
        }
    }
    points
}

fn kind(metric: &Value) -> Option<(Kind, &Value)> {
    let cumulative = |data: &Value| data["aggregationTemporality"].as_u64() == Some(CUMULATIVE);
    if let Some(data) = metric.get("gauge") {
        return Some((Kind::Gauge, data));
    }
    if let Some(data) = metric.get("sum") {
        let monotonic = data["isMonotonic"].as_bool().unwrap_or_default();
        return Some((Kind::Sum { monotonic, cumulative: cumulative(data) }, data));
    }
    metric.get("histogram").map(|data| (Kind::Histogram { cumulative: cumulative(data) }, data))
}

/// The value of a point.
fn value(point: &Value) -> f64 {
    ["asInt", "asDouble", "count"].into_iter().find_map(|key| number(&point[key])).unwrap_or_default()
}

/// A number. OTLP's JSON writes whole ones as texts.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_values_of_each_kind() {
        let batch = serde_json::json!({"resourceMetrics": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "meridio-proxy"}}]},
            "scopeMetrics": [{"scope": {"name": "Meridio"}, "metrics": [
                {"name": "a", "gauge": {"dataPoints": [{"asDouble": 1.5}]}},
                {"name": "b", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{
                    "startTimeUnixNano": "7", "asInt": "9",
                    "attributes": [{"key": "trench", "value": {"stringValue": "t"}}],
                }]}},
                {"name": "c", "histogram": {"aggregationTemporality": 1, "dataPoints": [{"count": "3"}]}},
                {"name": "d", "summary": {"dataPoints": [{"count": "3"}]}},
            ]}],
        }]});
        let found: Vec<_> =
            read(&batch).into_iter().map(|point| (point.name, point.kind, point.value)).collect();
        let expected = [
            ("a".to_owned(), Kind::Gauge, 1.5),
            ("b".to_owned(), Kind::Sum { monotonic: true, cumulative: true }, 9.0),
            ("c".to_owned(), Kind::Histogram { cumulative: false }, 3.0),
        ];
        assert_eq!(found, expected);
        let sum = &read(&batch)[1];
        assert_eq!((sum.service.as_str(), sum.meter.as_str()), ("meridio-proxy", "Meridio"));
        assert_eq!((sum.start.as_str(), sum.attributes["trench"].as_str()), ("7", "t"));
        assert_eq!(read(&serde_json::json!({"resourceMetrics": 1})), []);
    }
}
