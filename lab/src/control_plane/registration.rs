// SPDX-License-Identifier: Apache-2.0
//! Keeps an endpoint of the lab registered with nsmgr.

use std::{path::PathBuf, time::Duration};

use super::hop::TOKEN_LIFETIME;
use crate::error::{Doing, LabError};
use nsm::{
    api::pb::registry::{NetworkService, NetworkServiceEndpoint, NetworkServiceLabels},
    registry::{Client, Offer, Registration, Settings},
    transport::{Address, Dialer, Identity},
};

/// Timeout of one attempt to dial.
const DIAL: Duration = Duration::from_secs(5);

/// A dialer of nsmgr.
pub fn dialer(nsmgr: &Address, identity: &Identity) -> Dialer {
    Dialer {
        address: nsmgr.clone(),
        identity: identity.clone(),
        dial_timeout: DIAL,
        token_lifetime: TOKEN_LIFETIME,
    }
}

/// An endpoint that is kept registered.
pub struct Kept {
    name: String,
    registration: Registration,
}

impl Kept {
    /// Registers a service, and an endpoint of it, with labels, that listens on a socket.
    pub fn start(
        nsmgr: Dialer,
        name: &str,
        labels: &[(&str, &str)],
        service: NetworkService,
        socket: PathBuf,
    ) -> Self {
        let settings = Settings::default();
        let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        let labels = NetworkServiceLabels { labels: labels.collect() };
        let endpoint = NetworkServiceEndpoint {
            name: name.to_owned(),
            network_service_names: vec![service.name.clone()],
            network_service_labels: [(service.name.clone(), labels)].into(),
            ..NetworkServiceEndpoint::default()
        };
        let client = Client::new(nsmgr, settings.deadline);
        let offer = Offer { services: vec![service], endpoint, socket: Some(socket) };
        Self { name: name.to_owned(), registration: Registration::start(client, offer, settings) }
    }

    /// Waits until it is registered.
    ///
    /// # Errors
    /// It is not, within that time.
    pub async fn registered(&self, within: Duration) -> Result<(), LabError> {
        let mut state = self.registration.state();
        let registered = tokio::time::timeout(within, state.wait_for(|state| state.is_registered())).await;
        let ended = registered.doing(|| format!("register {} in time", self.name))?;
        ended.map(drop).doing(|| format!("register {}", self.name))
    }

    /// Unregisters; if that fails, the entry expires.
    pub async fn unregister(self) {
        if let Err(error) = self.registration.unregister().await {
            tracing::warn!(name = self.name, error = nsm::chain::causes(&error), "not unregistered");
        }
    }
}
