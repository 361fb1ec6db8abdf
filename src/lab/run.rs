// SPDX-License-Identifier: Apache-2.0
//! Perform a run: build, connect, ask, judge.

use super::{error::LabError, fabric::Fabric, ground::Ground, topology::Topology, verdict::Report};

/// Everything of a run that is alive.
pub struct Run {
    /// Its pods.
    pub fabric: Fabric,
}

impl Run {
    /// # Errors
    /// The network could not be built.
    pub async fn perform(topology: &Topology, ground: &Ground) -> Result<(Report, Self), LabError> {
        let fabric = Fabric::build(topology, ground).await?;
        Ok((Report::default(), Self { fabric }))
    }
}
