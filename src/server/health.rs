// SPDX-License-Identifier: Apache-2.0

//! The health service of an endpoint, as NSM's probes query it.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};

/// Names that an endpoint serves, besides the empty one for the server as a whole.
pub const NAMES: [&str; 2] = ["networkservice.NetworkService", "connection.MonitorConnection"];

/// The health service of an endpoint, serving under all its names, and the handle that changes
/// this.
pub async fn health() -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, server) = health_reporter();
    for name in NAMES {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    (reporter, server)
}
