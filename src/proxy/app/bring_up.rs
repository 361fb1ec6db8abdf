// SPDX-License-Identifier: Apache-2.0
//! Brings the conduit up, stage by stage, and takes it down in reverse.
//!
//! 1. **kernel**: reads the present state, adopts it, and stops leaks; the addresses of the bridge
//!    and the VIPs are those of the snapshot, if there is one.
//! 2. **identity**: waits for an SVID.
//! 3. **services**: connects to IPAM and NSP.
//! 4. **gateways**: waits for the addresses of the bridge, unless the snapshot has them.
//! 5. **listen**: serves the endpoint chain, once the kernel stops leaks.
//! 6. **VIPs**: follows them, and writes the snapshot.
//! 7. **mesh**: finds load balancers and connects to them.
//! 8. **register**: offers the endpoint to targets, and checks that it answers.
//!
//! Each stage puts a guard into [`Up`], and `Up::down` ends them from the last to the first. A
//! stage that waits is shown in the log and in health; dropping the future ends the wait at any
//! time.

use std::{path::Path, sync::Arc};

use ipnet::IpNet;
use tokio::sync::watch;

use super::{
    Failure,
    shut_down::UNREGISTER,
    waits::{declare_registered, identity, leak_stop, registered},
};
use crate::{
    App,
    app::Server,
    chain::Chain,
    elements::{
        answers::Answers,
        egress::Egress,
        ipam,
        mechanism::{Names, primary},
        send_fd::Netns,
    },
    ipam::Leases,
    kernel::{self, Kernel, Netlink},
    proxy::{
        chains::{self, Parts},
        config::Config,
        egress, endpoint, faults,
        gateways::{Gateways, hold_ports},
        health::{Health, Part},
        mesh::{self, LinkState, Mesh, Nsmgr},
        metrics::{Metrics, TimedRegistry},
        renumber,
        services::{Services, subnet},
        snapshot,
        state::Handles,
        vips::{self, Vips},
    },
    registry::{
        self, Registration, State,
        discovery::{self, Discovery},
    },
    server::monitor::{Connections, Limits},
    task::{Task, Tasks},
    transport::{Address, Dialer, Identity},
};

/// Directory for the socket of the endpoint.
const SOCKETS: &str = "/tmp";

/// The guards of the stages, in their order.
#[derive(Default)]
pub(super) struct Up {
    /// The handles for observers.
    pub(super) handles: Arc<Handles>,
    /// The metrics, to which calls are reported.
    pub(super) metrics: Option<Metrics>,
    pub(super) kernel: Option<Kernel>,
    pub(super) leases: Option<Leases>,
    pub(super) gateways: Option<Gateways>,
    pub(super) endpoint: Option<Server>,
    pub(super) discovery: Option<Discovery>,
    pub(super) mesh: Option<Mesh>,
    pub(super) registration: Option<Registration<TimedRegistry<registry::Client>>>,
    pub(super) snapshot: Option<snapshot::Writer>,
    pub(super) watches: Vec<Task>,
}

/// The snapshot of an earlier process, and its file.
pub(super) struct SnapshotFile {
    file: Option<snapshot::File>,
    restored: snapshot::Snapshot,
}

impl Up {
    /// The first stage: the snapshot of an earlier process, and the kernel.
    pub(super) async fn kernel(
        &mut self,
        config: &Config,
        health: &Health,
        tasks: &Tasks,
    ) -> Result<(Kernel, SnapshotFile), Failure> {
        let file = config.snapshot_path.as_ref().map(|path| snapshot::File::new(path, subnet(config)));
        let restored = file.as_ref().and_then(snapshot::File::load).unwrap_or_default();
        let kernel = kernel(config, restored.vips.as_deref(), tasks).await?;
        if !restored.gateways().is_empty() {
            kernel.set_gateways(restored.gateways());
        }
        self.watches.push(tasks.guarded(faults::report(kernel.status(), health.clone())));
        let _first = (self.handles.kernel.set(kernel.status()), self.handles.work.set(kernel.work()));
        if let Some(metrics) = &self.metrics {
            metrics.probes(&kernel.work());
        }
        self.kernel = Some(kernel.clone());
        Ok((kernel, SnapshotFile { file, restored }))
    }

    /// All other stages. When this ends or is dropped, `self` holds the guards so far.
    pub(super) async fn bring(
        &mut self,
        (kernel, SnapshotFile { file, restored }): (&Kernel, SnapshotFile),
        app: &App,
        config: &Config,
        health: &Health,
    ) -> Result<(), Failure> {
        let tasks = app.tasks();
        let identity = identity(app, health).await;
        let _first = self.handles.identity.set(identity.clone());
        let services =
            Services::open(config, &identity, restored.leases, health, self.metrics.as_ref(), tasks);
        self.watches.extend(self.handles.set_services(&services, tasks));
        self.leases = Some(services.leases.clone());
        let renew = config.bridge_ip_renew_interval;
        let gateways = Gateways::lease(&services.leases, kernel, renew, health, tasks).await?;
        let (listed, carried) = watch::channel(None);
        let parts = parts(config, &identity, kernel, &services.leases, &gateways, carried, tasks)?;
        self.gateways = Some(gateways);
        self.watches.push(tasks.guarded(hold_ports(services.leases.clone())));
        leak_stop(kernel, health).await?;
        let endpoint = self.listen(&parts, &identity, health).await?;
        let vips = vips::follow(services.nsp, config.trench.as_str(), restored.vips, tasks);
        let _first = self.handles.vips.set(vips.clone());
        let restored = snapshot::report(services.leases.status(), vips.clone(), health.clone());
        self.watches.push(tasks.guarded(restored));
        let sources = renumber::Sources {
            leases: services.leases.status(),
            gateways: parts.gateways.clone(),
            kernel: kernel.status(),
        };
        self.watches.push(tasks.guarded(renumber::targets(sources, parts.connections.clone())));
        let sources = snapshot::Sources { leases: services.leases, vips: vips.clone() };
        self.snapshot = file.map(|file| snapshot::Writer::start(file, sources, health.clone(), tasks));
        self.watches.push(tasks.guarded(vips::declare(vips.clone(), kernel.clone(), listed)));
        self.mesh(config, &parts, vips, health)?;
        self.register(config, &parts, &endpoint, health);
        Ok(())
    }

    async fn listen(
        &mut self,
        parts: &Parts,
        identity: &Identity,
        health: &Health,
    ) -> Result<Address, Failure> {
        let chain = self.observed("endpoint", chains::endpoint(parts)).build()?;
        let connections = parts.connections.clone();
        let _first = self.handles.connections.set(connections.clone());
        let identity = identity.clone();
        let parent = Path::new(SOCKETS);
        let endpoint =
            endpoint::serve(parent, &parts.name, chain, connections, identity, health, &parts.tasks).await?;
        let target = endpoint.address().clone();
        tracing::info!(%target, "listening");
        self.endpoint = Some(endpoint);
        Ok(target)
    }

    /// The chain, with its calls reported to the metrics.
    fn observed(&self, name: &'static str, chain: Chain) -> Chain {
        match &self.metrics {
            Some(metrics) => chain.observe(metrics.chain(name)),
            None => chain,
        }
    }

    fn mesh(
        &mut self,
        config: &Config,
        parts: &Parts,
        vips: watch::Receiver<Vips>,
        health: &Health,
    ) -> Result<(), Failure> {
        let status = watch::Sender::new(mesh::Status::default());
        let service = config.network_service_name.as_str();
        let seen = status.subscribe();
        // The registry may forget a load balancer that is not connected without any loss.
        let registry = registry::Client::new(parts.dialer.clone(), config.request_timeout);
        let registry = TimedRegistry::new(registry, self.metrics.as_ref());
        let discovery = Discovery::start(
            registry,
            service,
            Arc::new(move |name| seen.borrow().links.get(name) != Some(&LinkState::Connected)),
            discovery::Settings::default(),
        );
        let settings = mesh::Settings {
            name: parts.name.clone(),
            network_service: service.to_owned(),
            request_timeout: config.request_timeout,
        };
        let links = status.subscribe();
        let past = self.handles.set_mesh(settings.clone(), links, discovery.known(), &parts.tasks);
        self.watches.push(past);
        let _first = self.handles.answers.set(parts.answers.clone());
        let chain = self.observed("client", chains::client(parts)).build()?;
        let recovery = Nsmgr::new(parts.dialer.clone(), parts.kernel.clone());
        let lists = (discovery.lists(), settings.clone());
        let mesh = Mesh::start(settings, chain, recovery, discovery.known(), status, &parts.tasks);
        let egress = parts.egress.clone();
        let kernel = parts.kernel.status();
        let links = mesh.status();
        let egress = egress::report(config.families, egress, kernel, links, vips, health.clone());
        self.watches.push(parts.tasks.guarded(egress));
        let registered = declare_registered(health.clone(), lists.0, lists.1, parts.kernel.clone());
        self.watches.push(parts.tasks.guarded(registered));
        (self.discovery, self.mesh) = (Some(discovery), Some(mesh));
        Ok(())
    }

    fn register(&mut self, config: &Config, parts: &Parts, endpoint: &Address, health: &Health) {
        let Address::Unix(socket) = endpoint else { return };
        let settings = registry::Settings { unregister: UNREGISTER, ..registry::Settings::default() };
        let registry = registry::Client::new(parts.dialer.clone(), settings.deadline);
        let registry = TimedRegistry::new(registry, self.metrics.as_ref());
        let offer = endpoint::offer(&parts.name, &config.service_name, &config.host, socket);
        let registration = Registration::start(registry, offer, settings);
        let dialer = Dialer { address: endpoint.clone(), ..parts.dialer.clone() };
        let check = endpoint::check(dialer, config.grpc_probe_rpc_timeout, health.clone());
        let state = registration.state();
        self.watches.push(self.handles.set_registration(registration.state(), &parts.tasks));
        let waiting = health.clone();
        self.watches.push(parts.tasks.guarded(async move {
            registered(state, &waiting).await;
            check.await;
        }));
        self.registration = Some(registration);
    }

    /// Leaves everything in place, because the kernel cannot be changed any more; a successor
    /// continues it.
    pub(super) fn abandon(self, health: &Health) {
        for part in [Part::Egress, Part::Endpoint] {
            health.set(part, false, "the kernel is not reconciled any more");
        }
    }

    /// Waits until the registry refuses the endpoint permanently. Does not return otherwise.
    pub(super) async fn refused(&self) -> Arc<registry::Error> {
        if let Some(registration) = &self.registration {
            let mut state = registration.state();
            if let Ok(state) = state.wait_for(|state| matches!(state, State::Refused(_))).await
                && let State::Refused(error) = &*state
            {
                return Arc::clone(error);
            }
        }
        std::future::pending().await
    }
}

async fn kernel(config: &Config, vips: Option<&[IpNet]>, tasks: &Tasks) -> Result<Kernel, Failure> {
    let node = if config.host.is_empty() { &config.name } else { &config.host };
    let settings = kernel::Settings {
        families: config.families,
        liveness: config.liveness,
        announce: true,
        restored_vips: vips.unwrap_or_default().to_vec(),
        ..kernel::Settings::of(&config.trench, &config.conduit, node)
    };
    Ok(Kernel::start_on_thread(settings, Netlink::open, tasks).await?)
}

fn parts(
    config: &Config,
    identity: &Identity,
    kernel: &Kernel,
    leases: &Leases,
    gateways: &Gateways,
    vips: watch::Receiver<ipam::Listed>,
    tasks: &Tasks,
) -> Result<Parts, Failure> {
    let bridge = kernel::Ours::default().bridge;
    Ok(Parts {
        name: config.name.clone(),
        mtu: config.mtu,
        token_lifetime: config.max_token_lifetime,
        tasks: tasks.clone(),
        kernel: kernel.clone(),
        leases: leases.clone(),
        gateways: gateways.current(),
        vips,
        connections: Connections::new(Limits::default()),
        egress: Egress::default(),
        answers: Answers::default(),
        names: Names::new(move |name| *name == bridge || primary::is_foreign(name)),
        netns: Netns::own()?,
        dialer: Dialer {
            address: config.connect_to.clone(),
            identity: identity.clone(),
            dial_timeout: config.dial_timeout,
            token_lifetime: config.max_token_lifetime,
        },
    })
}
