// SPDX-License-Identifier: Apache-2.0

//! A proxy that serves targets over its socket, between an IPAM and an NSP over mTLS. Only the
//! kernel is in memory.

use std::{sync::Mutex, time::Duration};

use meridio_lab::control_plane::{ipam::Ipam, nsp::Nsp};
use nsm::{
    api::{Connection, Mechanism},
    app::Server,
    elements::mechanism::Names,
    ipam::{Subnet, Tree},
    kernel::{self, Kernel, Memory},
    proxy::{
        chains::{self, Parts},
        config::Config,
        endpoint, faults,
        gateways::Gateways,
        health::Health,
        in_memory,
        services::Services,
        vips,
    },
    task::Tasks,
    testing::{Authority, Lines},
    transport::{Address, Dialer, Identity},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use crate::{
    around::{DOMAIN, HOUR, config, dialer, host, identity},
    counts::Counts,
    target,
};

/// The VIPs of the trench.
pub(crate) const VIPS: [(&str, &str); 2] = [("vip-a", "20.0.0.1/32"), ("vip-b", "2001:db8::1/128")];

pub(crate) struct World {
    pub(crate) log: Lines,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) linux: Memory,
    pub(crate) ipam: Ipam,
    pub(crate) nsp: Nsp,
    pub(crate) parts: Parts,
    /// Socket that targets call.
    pub(crate) socket: Address,
    /// The connection of a target. It exists before and after every row.
    pub(crate) standing: Connection,
    /// The counts before and after every row.
    pub(crate) before: Counts,
    ipam_server: Mutex<Option<AbortOnDropHandle<()>>>,
    _nsp_server: AbortOnDropHandle<()>,
    _gateways: Gateways,
    _endpoint: Server,
}

impl World {
    pub(crate) async fn start(log: Lines) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::default();
        let health = Health::default();
        let config = config(&folder);
        let authority = Authority::new(DOMAIN);
        let tree = Tree::new("trench");
        let nsp = Nsp::new("trench");
        let linux = Memory::default();
        tree.add_conduit("conduit").unwrap();
        nsp.set_vips(VIPS);
        let ipam = Ipam::new(tree);
        let pod = |name| identity(&authority, name);
        let ipam_server = host(&config.ipam_service, pod("ipam"), Routes::new(ipam.service())).await;
        let routes = Routes::new(nsp.configuration_manager());
        let _nsp_server = host(&config.nsp_service, pod("nsp"), routes).await;
        let own = pod("px");
        let (parts, _gateways) = parts(&config, &own, &linux, &health, &tasks).await;
        let chain = chains::endpoint(&parts).build().unwrap();
        let name = &parts.name;
        let connections = parts.connections.clone();
        let endpoint = endpoint::serve(folder.path(), name, chain, connections, own, &health, &tasks);
        let _endpoint = endpoint.await.unwrap();
        let world = Self {
            log,
            authority,
            linux,
            ipam,
            nsp,
            parts,
            socket: _endpoint.address().clone(),
            standing: Connection::default(),
            before: Counts::default(),
            ipam_server: Mutex::new(Some(ipam_server)),
            _nsp_server,
            _gateways,
            _endpoint,
            folder,
        };
        world.occupied().await
    }

    /// Connects one target, and waits until everything is in place.
    async fn occupied(mut self) -> Self {
        self.standing = target::established(&self, "standing").await.unwrap();
        let mut status = self.parts.kernel.status();
        let whole = status.wait_for(|status| status.vips && status.degraded.is_empty());
        tokio::time::timeout(Duration::from_secs(10), whole).await.unwrap().unwrap();
        self.before = self.settled().await;
        self
    }

    /// The identity of a pod.
    pub(crate) fn identity(&self, pod: &str) -> Identity {
        identity(&self.authority, pod)
    }

    /// The dialer of a pod to the proxy.
    pub(crate) fn dialer(&self, pod: &str) -> Dialer {
        dialer(&self.socket, self.identity(pod), HOUR)
    }

    /// The subnet of the proxy's addresses.
    pub(crate) fn subnet(&self) -> Subnet {
        Subnet { trench: "trench".into(), conduit: "conduit".into(), node: "node".into() }
    }

    /// Stops the IPAM, with its connections and its socket.
    pub(crate) fn stop_ipam(&self) {
        drop(self.ipam_server.lock().unwrap().take());
    }

    pub(crate) async fn start_ipam(&self) {
        let target = config(&self.folder).ipam_service;
        let routes = Routes::new(self.ipam.service());
        let server = host(&target, self.identity("ipam"), routes).await;
        *self.ipam_server.lock().unwrap() = Some(server);
    }

    /// Creates the link of a connection, as the forwarder does: it becomes a port.
    pub(crate) async fn link(&self, connection: &Connection) -> Result<(), String> {
        let name = name_of(connection)?;
        self.linux.add_link(&name, None);
        let mut status = self.parts.kernel.status();
        let port = status.wait_for(|status| status.ports.iter().any(|port| port.as_str() == name));
        match tokio::time::timeout(Duration::from_secs(5), port).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("`{name}` is no port: {:?}", self.parts.kernel.status().borrow().clone())),
        }
    }

    pub(crate) fn unlink(&self, connection: &Connection) {
        self.linux.remove_link(&name_of(connection).unwrap_or_default());
    }

    pub(crate) async fn end(self) {
        self.parts.tasks.stop().await;
    }
}

/// The dependencies of the chain, and the lease of the bridge.
async fn parts(
    config: &Config,
    own: &Identity,
    linux: &Memory,
    health: &Health,
    tasks: &Tasks,
) -> (Parts, Gateways) {
    let settings = kernel::Settings {
        adoption: Duration::from_millis(20),
        ..kernel::Settings::of("trench", "conduit", "node")
    };
    let kernel = Kernel::start(settings, linux.clone(), tasks);
    tasks.spawn(faults::report(kernel.status(), health.clone()));
    let services = Services::open(config, own, Vec::new(), health, None, tasks);
    let renew = config.bridge_ip_renew_interval;
    let gateways = Gateways::lease(&services.leases, &kernel, renew, health, tasks).await.unwrap();
    let (listed, carried) = tokio::sync::watch::channel(None);
    let followed = vips::follow(services.nsp, "trench", None, tasks);
    tasks.spawn(vips::declare(followed, kernel.clone(), listed));
    let parts = Parts {
        mtu: config.mtu,
        names: Names::new(|name| name.as_str() == "eth0"),
        kernel,
        leases: services.leases,
        gateways: gateways.current(),
        vips: carried,
        dialer: dialer(&config.connect_to, own.clone(), HOUR),
        ..in_memory::parts(&config.name, tasks).unwrap()
    };
    (parts, gateways)
}

fn name_of(connection: &Connection) -> Result<String, String> {
    let name = connection.mechanism.as_ref().and_then(Mechanism::interface);
    name.map(|name| name.to_string()).ok_or_else(|| format!("no link: {:?}", connection.mechanism))
}
