// SPDX-License-Identifier: Apache-2.0

//! The two chains of the proxy, in request order: before passing a Request on, rows act from top to
//! bottom; on the response, from bottom to top. Comments mark the rows whose move would be a bug
//! that no declared order refuses.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    chain::{Chain, Element, begin::BeginLayer, metadata::MetadataLayer},
    elements::{
        answers::Answers,
        authorize, bridge,
        connect::Connect,
        egress::Egress,
        heal::{self, Heal},
        ipam,
        mechanism::{self, Names},
        monitor::Monitor,
        mtu::Mtu,
        refresh::Refresh,
        send_fd::{self, Netns},
        source_route::SourceRoute,
        timeout::Timeout,
        trace::Trace,
        trim_path::TrimPath,
        update_path::UpdatePath,
        update_token::UpdateToken,
    },
    ipam::Leases,
    kernel::Kernel,
    proxy::mesh::Links,
    server::monitor::Connections,
    task::Tasks,
    transport::Dialer,
};

/// The parts of the proxy on which the chains depend.
#[derive(Clone)]
pub struct Parts {
    /// Name of the proxy in every path: its pod's name.
    pub name: String,
    /// Lifetime of the tokens of this hop.
    pub token_lifetime: Duration,
    /// MTU of all links, in bytes.
    pub mtu: u32,
    /// The network namespace of the links.
    pub netns: Netns,
    /// Names of the links in that namespace.
    pub names: Names,
    /// Desired state of bridge, ports and next hops.
    pub kernel: Kernel,
    /// Addresses.
    pub leases: Leases,
    /// Addresses of the bridge: the targets' gateways.
    pub gateways: watch::Receiver<ipam::Gateways>,
    /// VIPs of the trench, which targets may carry.
    pub vips: watch::Receiver<ipam::Listed>,
    /// Targets' connections, as peers monitor them.
    pub connections: Connections,
    /// Load balancers' connections that carry egress.
    pub egress: Egress,
    /// The last answers of load balancers, for observers.
    pub answers: Answers,
    /// Connects to nsmgr.
    pub dialer: Dialer,
    /// Owner of the lanes and timers.
    pub tasks: Tasks,
}

/// The chains by name, each with the names of its rows in request order. They are known before any
/// part of a row exists; a test compares them with the chains that are built.
pub(crate) const ROWS: [(&str, &[&str]); 2] = [
    (
        "endpoint",
        &[
            Trace::NAME,
            UpdatePath::NAME,
            UpdateToken::NAME,
            authorize::Endpoint::NAME,
            BeginLayer::NAME,
            MetadataLayer::NAME,
            Timeout::NAME,
            Monitor::NAME,
            TrimPath::NAME,
            mechanism::Endpoint::NAME,
            ipam::Endpoint::NAME,
            bridge::Endpoint::NAME,
            Mtu::NAME,
            send_fd::Endpoint::NAME,
        ],
    ),
    (
        "client",
        &[
            Trace::NAME,
            UpdatePath::NAME,
            BeginLayer::NAME,
            MetadataLayer::NAME,
            Answers::NAME,
            Refresh::NAME,
            Heal::NAME,
            mechanism::Client::NAME,
            ipam::Client::NAME,
            Egress::NAME,
            SourceRoute::NAME,
            bridge::Client::NAME,
            Mtu::NAME,
            send_fd::Client::NAME,
            authorize::Client::NAME,
            Connect::NAME,
        ],
    ),
];

/// The chain that targets call.
pub fn endpoint(parts: &Parts) -> Chain {
    Chain::new()
        .with(Trace)
        .with(UpdatePath::new(&parts.name))
        // in NSM below begin: there a reselect closes a connection before its caller is authorized
        .with(UpdateToken::new(parts.token_lifetime))
        .with(authorize::Endpoint)
        .with(BeginLayer::endpoint(parts.tasks.clone()))
        .with(MetadataLayer)
        .with(Timeout)
        .with(Monitor::new(parts.connections.clone()))
        // below monitor and timeout, which need the path that the caller gets
        .with(TrimPath::default())
        .with(mechanism::Endpoint::new(parts.names.clone()))
        .with(ipam::Endpoint::new(parts.leases.clone(), parts.gateways.clone(), parts.vips.clone()))
        .with(bridge::Endpoint::new(parts.kernel.clone()))
        .with(Mtu(parts.mtu))
        .with(send_fd::Endpoint::new(parts.netns.clone()))
}

/// The chain that calls the load balancers.
pub fn client(parts: &Parts) -> Chain {
    let heal = heal::Settings {
        liveness: Some(Arc::new(Links::new(parts.kernel.clone()))),
        keep_endpoint: true, // another load balancer has a connection of its own
        token_lifetime: parts.token_lifetime,
        ..heal::Settings::default()
    };
    Chain::new()
        .with(Trace)
        .with(UpdatePath::new(&parts.name))
        .with(BeginLayer::client(parts.tasks.clone()))
        .with(MetadataLayer)
        .with(parts.answers.clone())
        .with(Refresh)
        .with(Heal::new(heal))
        .with(mechanism::Client::new(parts.names.clone()))
        .with(ipam::Client::new(parts.leases.clone()))
        .with(parts.egress.clone())
        .with(SourceRoute::new(parts.kernel.clone()))
        .with(bridge::Client::new(parts.kernel.clone()))
        .with(Mtu(parts.mtu))
        .with(send_fd::Client::new(parts.netns.clone()))
        .with(authorize::Client)
        .end(Connect::new(parts.dialer.clone()))
}

#[cfg(test)]
mod tests;
