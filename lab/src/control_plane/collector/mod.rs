// SPDX-License-Identifier: Apache-2.0
//! Runs a real OpenTelemetry collector, and reads the spans and metrics that it has written.
//!
//! It is the program of `tests/collector`. Programs on the node send their spans to its socket,
//! proxies their spans and metrics to its port beside IPAM and NSP.

mod metrics;
mod spans;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use self::{
    metrics::{Kind, Point},
    spans::Span,
};
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
    written: PathBuf,
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
        let written = pod.folder.join("collected.json");
        let arguments =
            ["-listen", &address.to_string(), "-socket", SOCKET, "-out", &written.to_string_lossy()];
        let start = Start {
            program: COLLECTOR.as_ref(),
            arguments: &arguments,
            environment: &[],
            mounts: &[],
            confined: false,
            log: "collector.log",
        };
        Ok(Some(Self { _process: Process::start(pod, &start)?, address, written }))
    }

    /// Whether it listens.
    pub fn listens() -> bool {
        Path::new(SOCKET).exists()
    }

    /// The variables of a proxy whose spans and metrics it receives.
    pub fn of_proxy(&self) -> [(String, String); 4] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), format!("http://{}", self.address)),
            ("OTEL_BSP_SCHEDULE_DELAY".into(), "100".into()),
            ("OTEL_METRICS_EXPORTER".into(), "otlp".into()),
            ("OTEL_METRIC_EXPORT_INTERVAL".into(), "500".into()),
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

    /// All spans that it has written.
    pub fn spans(&self) -> Vec<Span> {
        self.batches().flat_map(|batch| spans::read(&batch)).collect()
    }

    /// All values of metrics that it has written, in order of arrival.
    pub fn points(&self) -> Vec<Point> {
        self.batches().flat_map(|batch| metrics::read(&batch)).collect()
    }

    /// The batches in OTLP's JSON. A line that is being written is left out.
    fn batches(&self) -> impl Iterator<Item = Value> {
        let text = fs::read_to_string(&self.written).unwrap_or_default();
        let batches = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        batches.collect::<Vec<_>>().into_iter()
    }
}

/// The objects of a list; none if it is missing.
fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The attributes whose values are texts.
fn attributes(of: &Value) -> BTreeMap<String, String> {
    let pairs = list(of, "attributes");
    let pairs =
        pairs.filter_map(|pair| Some((pair["key"].as_str()?, pair["value"]["stringValue"].as_str()?)));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
