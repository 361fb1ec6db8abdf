// SPDX-License-Identifier: Apache-2.0
//! The counters of the ports, with the names and labels of Meridio's other components.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::time::Instant;

use super::{
    FRESH,
    metric::{Metric, bounded, list},
};
use crate::{
    api::InterfaceName,
    kernel::{Counters, Ours, Port, Refusal, Statistics},
};

const LABELS: &[&str; 5] = &["trench", "conduit", "interface_name", "mac_address", "ips"];
/// Maximum number of ports of a bridge.
const MAX_PORTS: usize = 1023;

const fn metric(name: &'static str, unit: &'static str, meaning: &'static str) -> Metric {
    Metric::counter(name, unit, meaning).by(LABELS, MAX_PORTS)
}

const RX_PACKETS: Metric =
    metric("meridio.interface.rx_packets", "packets", "Packets that a port has received.");
const TX_PACKETS: Metric = metric("meridio.interface.tx_packets", "packets", "Packets that a port has sent.");
const RX_BYTES: Metric = metric("meridio.interface.rx_bytes", "bytes", "Bytes that a port has received.");
const TX_BYTES: Metric = metric("meridio.interface.tx_bytes", "bytes", "Bytes that a port has sent.");
const RX_ERRORS: Metric =
    metric("meridio.interface.rx_errors", "errors", "Packets that a port has received with an error.");
const TX_ERRORS: Metric =
    metric("meridio.interface.tx_errors", "errors", "Packets that a port could not send.");
const RX_DROPPED: Metric =
    metric("meridio.interface.rx_dropped", "dropped", "Received packets that a port has dropped.");
const TX_DROPPED: Metric =
    metric("meridio.interface.tx_dropped", "dropped", "Packets that a port has dropped instead of sending.");

pub(super) const METRICS: [&Metric; 8] =
    [&RX_PACKETS, &TX_PACKETS, &RX_BYTES, &TX_BYTES, &RX_ERRORS, &TX_ERRORS, &RX_DROPPED, &TX_DROPPED];

/// The values of one port, in the order of [`METRICS`].
const fn values(of: &Statistics) -> [u64; 8] {
    [
        of.rx_packets,
        of.tx_packets,
        of.rx_bytes,
        of.tx_bytes,
        of.rx_errors,
        of.tx_errors,
        of.rx_dropped,
        of.tx_dropped,
    ]
}

/// A source of ports, with their counters.
pub(super) type Read = Box<dyn FnMut() -> Result<Vec<Port>, Refusal> + Send>;

/// The ports of this network namespace.
///
/// # Errors
/// Those of the socket calls.
pub(super) fn ports() -> std::io::Result<Read> {
    let mut counters = Counters::open()?;
    let bridge: InterfaceName = Ours::default().bridge;
    Ok(Box::new(move || counters.ports(&bridge)))
}

/// The ports as last read: once for all metrics of a scrape.
struct Ports {
    read: Read,
    last: Option<Instant>,
    series: Arc<[Series]>,
    failing: bool,
    /// The labels that all series have.
    common: [KeyValue; 2],
}

/// The series of one port.
struct Series {
    labels: [KeyValue; 5],
    values: [u64; 8],
}

impl Ports {
    fn series(&mut self) -> Arc<[Series]> {
        if self.last.is_none_or(|last| last.elapsed() >= FRESH) {
            let ports = (self.read)();
            self.note(ports.as_ref().err());
            let [trench, conduit] = &self.common;
            let series = ports.unwrap_or_default().into_iter().map(|port| Series {
                labels: [
                    trench.clone(),
                    conduit.clone(),
                    bounded(LABELS[2], &port.name.to_string()),
                    bounded(LABELS[3], &port.mac.map(|mac| mac.to_string()).unwrap_or_default()),
                    list(LABELS[4], port.addresses.iter().map(ToString::to_string)),
                ],
                values: values(&port.statistics),
            });
            self.series = series.collect();
            self.last = Some(Instant::now());
        }
        Arc::clone(&self.series)
    }

    /// Logs a series of failures when it begins and when it ends.
    fn note(&mut self, refusal: Option<&Refusal>) {
        match refusal {
            Some(refusal) if !self.failing => {
                tracing::warn!(%refusal, "the counters of ports cannot be read")
            }
            None if self.failing => tracing::info!("the counters of ports are read again"),
            _ => {}
        }
        self.failing = refusal.is_some();
    }
}

/// Registers the counters of the ports of a trench's conduit.
pub(super) fn register(meter: &Meter, trench: &str, conduit: &str, read: Read) {
    let common = [bounded(LABELS[0], trench), bounded(LABELS[1], conduit)];
    let ports = Ports { read, last: None, series: Arc::new([]), failing: false, common };
    let ports = Arc::new(Mutex::new(ports));
    for (at, metric) in METRICS.into_iter().enumerate() {
        let ports = Arc::clone(&ports);
        metric.observe(meter, move |observer| {
            let series = ports.lock().unwrap_or_else(PoisonError::into_inner).series();
            for series in series.iter() {
                observer.labelled(&series.labels, series.values[at]);
            }
        });
    }
}
