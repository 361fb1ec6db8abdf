// SPDX-License-Identifier: Apache-2.0
//! Runs a real OpenTelemetry collector, and reads the spans that it has written.
//!
//! It is the program of `tests/collector`. Programs on the node send their spans to its socket,
//! proxies to its port beside IPAM and NSP.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    error::LabError,
    pods::pod::{Pod, Process, Start},
};

/// Its path in the lab. It runs if it is there.
pub const COLLECTOR: &str = "/run/collector";
/// Its socket for programs on the node.
const SOCKET: &str = "/run/collector.sock";
/// Port of OTLP over gRPC.
const PORT: u16 = 4317;

/// A running collector.
pub struct Collector {
    _process: Process,
    address: SocketAddr,
    spans: PathBuf,
}

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

impl Collector {
    /// Starts it in a pod, if its program is there.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(pod: &Pod, address: IpAddr) -> Result<Option<Self>, LabError> {
        if !Path::new(COLLECTOR).exists() {
            return Ok(None);
        }
        let address = SocketAddr::new(address, PORT);
        let spans = pod.folder.join("spans.json");
        let arguments =
            ["-listen", &address.to_string(), "-socket", SOCKET, "-out", &spans.to_string_lossy()];
        let start = Start {
            program: COLLECTOR.as_ref(),
            arguments: &arguments,
            environment: &[],
            mounts: &[],
            confined: false,
            log: "collector.log",
        };
        Ok(Some(Self { _process: Process::start(pod, &start)?, address, spans }))
    }

    /// Whether it listens.
    pub fn listens() -> bool {
        Path::new(SOCKET).exists()
    }

    /// The variables of a proxy whose spans it receives.
    pub fn of_proxy(&self) -> [(String, String); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), format!("http://{}", self.address)),
            ("OTEL_BSP_SCHEDULE_DELAY".into(), "100".into()),
        ]
    }

    /// The variables of a Go program on the node, whose spans it receives if it runs.
    pub fn of_peer() -> Vec<(String, String)> {
        let variables = [
            ("TELEMETRY", "true".to_owned()),
            ("NSM_OPEN_TELEMETRY_ENDPOINT", format!("unix://{SOCKET}")),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        if Path::new(COLLECTOR).exists() { variables.into() } else { Vec::new() }
    }

    /// All spans that it has written. A line that is being written is left out.
    pub fn spans(&self) -> Vec<Span> {
        let text = fs::read_to_string(&self.spans).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .flat_map(|batch| read(&batch))
            .collect()
    }
}

/// The spans of a batch in OTLP's JSON.
fn read(batch: &Value) -> Vec<Span> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for resource in list(batch, "resourceSpans") {
        let service = attributes(&resource["resource"]).remove("service.name").unwrap_or_default();
        for span in list(&resource, "scopeSpans").iter().flat_map(|scope| list(scope, "spans")) {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            spans.push(Span {
                service: service.clone(),
                name: text("name"),
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                attributes: attributes(&span),
            });
        }
    }
    spans
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pairs = of["attributes"].as_array().into_iter().flatten();
    let pairs =
        pairs.filter_map(|pair| Some((pair["key"].as_str()?, pair["value"]["stringValue"].as_str()?)));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
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
