// SPDX-License-Identifier: Apache-2.0

//! The rows that every endpoint and every client has.

use std::time::Duration;

use crate::{
    chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
    elements::{
        authorize,
        connect::Connect,
        heal::{self, Heal},
        monitor::Monitor,
        refresh::Refresh,
        timeout::Timeout,
        trace::Trace,
        trim_path::TrimPath,
        update_path::UpdatePath,
        update_token::UpdateToken,
    },
    server::monitor::Connections,
    task::Tasks,
    transport::Dialer,
};

/// Lifetime of tokens, as in NSM's endpoints and clients.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// Timeout of one attempt to connect to nsmgr.
pub(super) const DIAL: Duration = Duration::from_secs(5);
/// Payload of network services and connections: frames.
pub(super) const PAYLOAD: &str = "ETHERNET";

/// The changes that an author makes to the standard rows, in order.
#[derive(Default)]
pub(super) struct Changes(Vec<Box<dyn FnOnce(Chain) -> Chain + Send>>);

impl Changes {
    pub(super) fn push(&mut self, change: impl FnOnce(Chain) -> Chain + Send + 'static) {
        self.0.push(Box::new(change));
    }

    pub(super) fn apply(self, standard: Chain) -> Chain {
        self.0.into_iter().fold(standard, |chain, change| change(chain))
    }
}

/// The rows of an endpoint above those of its author.
pub(super) fn endpoint(
    name: &str,
    token_lifetime: Duration,
    connections: &Connections,
    tasks: &Tasks,
) -> Chain {
    Chain::new()
        .with(Trace)
        .with(UpdatePath::new(name))
        .with(UpdateToken::new(token_lifetime))
        .with(authorize::Endpoint)
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(MetadataLayer)
        .with(Timeout)
        .with(Monitor::new(connections.clone()))
        .with(TrimPath::default())
}

/// The rows of a client above those of its author.
pub(super) fn client(name: &str, token_lifetime: Duration, tasks: &Tasks) -> Chain {
    let heal = heal::Settings { token_lifetime, ..heal::Settings::default() };
    Chain::new()
        .with(Trace)
        .with(UpdatePath::new(name))
        .with(BeginLayer::client(tasks.clone()))
        .with(MetadataLayer)
        .with(Refresh)
        .with(Heal::new(heal))
}

/// The rows of a client below those of its author.
pub(super) fn connect(chain: Chain, dialer: Dialer) -> Chain {
    chain.with(authorize::Client).end(Connect::new(dialer))
}
