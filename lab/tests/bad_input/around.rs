// SPDX-License-Identifier: Apache-2.0

//! The surroundings of a proxy: its variables, identities, and servers over mTLS.

use std::{future::pending, time::Duration};

use nsm::{
    proxy::config::Config,
    server::serve,
    testing::Authority,
    transport::{Address, Dialer, Identity, Listener, Svid},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The trust domain of the proxy.
pub(crate) const DOMAIN: &str = "a.test";

/// The proxy's variables, with IPAM and NSP on sockets of this world.
pub(crate) fn config(folder: &tempfile::TempDir) -> Config {
    let config = Config::parse(|name| {
        let value = match name {
            "NSM_NAME" => "px",
            "NSM_HOST" => "node",
            "NSM_TRENCH" => "trench",
            "NSM_CONDUIT" => "conduit",
            "NSM_IP_RELEASE_DELAY" => "0s",
            "NSM_GRPC_MAX_BACKOFF" => "200ms",
            "SPIFFE_ENDPOINT_SOCKET" => "unix:///none",
            _ => return None,
        };
        Some(value.to_owned())
    });
    let at = |name: &str| Address::Unix(folder.path().join(name));
    Config {
        ipam_service: at("ipam.sock"),
        nsp_service: at("nsp.sock"),
        connect_to: at("nsm.io.sock"),
        ..config.unwrap()
    }
}

/// Serves until the result is dropped.
pub(crate) async fn host(target: &Address, identity: Identity, routes: Routes) -> AbortOnDropHandle<()> {
    let listener = Listener::bind(target, identity).await.unwrap().keep_descriptors();
    AbortOnDropHandle::new(tokio::spawn(serve(listener, routes, pending(), Duration::ZERO)))
}

pub(crate) fn identity(authority: &Authority, pod: &str) -> Identity {
    let issued = authority.issue(&authority.pod("default", pod), HOUR);
    Identity::fixed(Svid::new(&authority.context(&issued)).unwrap().into())
}

pub(crate) fn dialer(target: &Address, identity: Identity, token_lifetime: Duration) -> Dialer {
    Dialer { address: target.clone(), identity, dial_timeout: Duration::from_secs(5), token_lifetime }
}
