// SPDX-License-Identifier: Apache-2.0
//! The handles that a document is read from.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use tokio::sync::watch;

use super::{
    Chains, Conduit, Document, Kernel, Leases, Mesh, Process, Services, Start, Target, VERSION, Verdict,
    history::History, peers, services,
};
use crate::{
    elements::answers::Answers,
    ipam, kernel,
    proxy::{
        self,
        chains::ROWS,
        config::Config,
        health::{Board, Health, LIVENESS, Part, READINESS},
        log::{Event, Events, timestamp},
        mesh,
        telemetry::Losses,
        vips::Vips,
    },
    registry::{self, discovery::Discovered},
    server::monitor::Connections,
    task::{Task, Tasks},
    transport::{Identity, Link},
};

/// The inputs of a document. Clones share them.
#[derive(Clone)]
pub(crate) struct Sources {
    config: Arc<Config>,
    health: Health,
    started: SystemTime,
    events: Events,
    handles: Arc<Handles>,
}

/// The handles of the parts. Each is set once, by the stage of the start that has it.
#[derive(Default)]
pub(crate) struct Handles {
    /// Those of IPAM, NSP, nsmgr and the registry.
    histories: [History; 4],
    pub(crate) kernel: OnceLock<watch::Receiver<kernel::Status>>,
    pub(crate) identity: OnceLock<Identity>,
    pub(crate) ipam: OnceLock<watch::Receiver<Link>>,
    pub(crate) nsp: OnceLock<watch::Receiver<Link>>,
    pub(crate) leases: OnceLock<watch::Receiver<ipam::Status>>,
    pub(crate) list: OnceLock<watch::Receiver<ipam::List>>,
    pub(crate) connections: OnceLock<Connections>,
    pub(crate) work: OnceLock<Arc<kernel::Work>>,
    pub(crate) losses: OnceLock<Arc<Losses>>,
    pub(crate) vips: OnceLock<watch::Receiver<Vips>>,
    pub(crate) discovery: OnceLock<watch::Receiver<Discovered>>,
    pub(crate) mesh: OnceLock<(mesh::Settings, watch::Receiver<mesh::Status>)>,
    pub(crate) answers: OnceLock<Answers>,
    pub(crate) registration: OnceLock<watch::Receiver<registry::State>>,
}

impl Sources {
    /// The inputs at the beginning of the process; the stages of the start set the handles.
    pub(crate) fn new(config: &Config, health: &Health) -> Self {
        Self {
            config: Arc::new(config.clone()),
            health: health.clone(),
            started: SystemTime::now(),
            events: Events::default(),
            handles: Arc::default(),
        }
    }

    /// Shows these events.
    pub(crate) fn with_events(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// The last events.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.all()
    }

    /// The configuration of the proxy.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The health of the proxy.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// The handles of the parts.
    pub(crate) fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }

    /// The rows of the chains.
    pub(crate) fn chains() -> Chains {
        ROWS.into_iter()
            .map(|(name, rows)| (name.to_owned(), rows.iter().map(ToString::to_string).collect()))
            .collect()
    }

    /// The present state.
    pub(crate) fn document(&self) -> Document {
        let Self { config, health, handles, .. } = self;
        let kernel = handles.kernel.get().map(|status| status.borrow().clone());
        let board = health.subscribe().borrow().clone();
        Document {
            version: VERSION,
            time: timestamp(SystemTime::now()),
            process: self.process(),
            start: start(&board),
            conduit: conduit(config),
            config: config.settings.clone(),
            warnings: config.warnings.clone(),
            health: verdicts(&board),
            chains: Self::chains(),
            identity: handles
                .identity
                .get()
                .map(|identity| services::identity(&identity.subscribe().borrow())),
            services: handles.services(config),
            mesh: handles.mesh(kernel.as_ref()),
            targets: kernel.as_ref().map(|kernel| handles.targets(kernel)).unwrap_or_default(),
            leases: handles.leases(),
            vips: handles.vips.get().map(|vips| services::vips(&vips.borrow())),
            kernel: kernel.as_ref().map(|status| Kernel::read(status, config.families)),
            events: self.events(),
        }
    }

    fn process(&self) -> Process {
        Process {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: timestamp(self.started),
            uptime_seconds: self.started.elapsed().unwrap_or_default().as_secs(),
        }
    }
}

impl Handles {
    /// Sets the handles of the stage `services`, and follows both.
    pub(crate) fn set_services(&self, services: &proxy::services::Services, tasks: &Tasks) -> [Task; 2] {
        let [ipam, nsp] = services.links.clone();
        let _first = (self.ipam.set(ipam.clone()), self.nsp.set(nsp.clone()));
        let _first = self.leases.set(services.leases.status());
        let _first = self.list.set(services.leases.list());
        let [of_ipam, of_nsp, ..] = self.histories.clone();
        [
            tasks.guarded(of_ipam.follow(ipam, services::channel)),
            tasks.guarded(of_nsp.follow(nsp, services::channel)),
        ]
    }

    /// Sets the handles of the stage `mesh`, and follows the registry.
    pub(crate) fn set_mesh(
        &self,
        settings: mesh::Settings,
        status: watch::Receiver<mesh::Status>,
        known: watch::Receiver<Discovered>,
        tasks: &Tasks,
    ) -> Task {
        let _first = (self.mesh.set((settings, status)), self.discovery.set(known.clone()));
        let [.., registry] = self.histories.clone();
        tasks.guarded(registry.follow(known, services::discovery))
    }

    /// Sets the handle of the stage `register`, and follows nsmgr.
    pub(crate) fn set_registration(&self, state: watch::Receiver<registry::State>, tasks: &Tasks) -> Task {
        let _first = self.registration.set(state.clone());
        let [_, _, nsmgr, _] = self.histories.clone();
        tasks.guarded(nsmgr.follow(state, services::registration))
    }

    fn services(&self, config: &Config) -> Services {
        let [ipam, nsp, nsmgr, registry] = &self.histories;
        let manager = || config.connect_to.to_string();
        let is_up = |of: &OnceLock<watch::Receiver<Link>>| of.get().map(|link| link.borrow().is_up());
        let registered = self.registration.get().map(|state| state.borrow().is_registered());
        let listed = self.discovery.get().map(|known| services::discovery(&known.borrow()).0);
        Services {
            ipam: is_up(&self.ipam).map(|up| ipam.service(config.ipam_service.to_string(), up)),
            nsp: is_up(&self.nsp).map(|up| nsp.service(config.nsp_service.to_string(), up)),
            nsmgr: registered.map(|up| nsmgr.service(manager(), up)),
            registry: listed.map(|up| registry.service(manager(), up)),
        }
    }

    fn leases(&self) -> Option<Leases> {
        let status = self.leases.get()?.borrow().clone();
        let none = ipam::List::default();
        match self.list.get() {
            Some(list) => Some(services::leases(&status, &list.borrow())),
            None => Some(services::leases(&status, &none)),
        }
    }

    fn targets(&self, kernel: &kernel::Status) -> Vec<Target> {
        peers::targets(kernel, &self.connections.get().cloned().unwrap_or_default())
    }

    fn mesh(&self, kernel: Option<&kernel::Status>) -> Option<Mesh> {
        let (settings, status) = self.mesh.get()?;
        let known = self.discovery.get().map(|known| known.borrow().clone()).unwrap_or_default();
        let status = status.borrow().clone();
        let answers = self.answers.get().cloned().unwrap_or_default();
        let mut load_balancers = peers::load_balancers(&status, settings, kernel?, &answers);
        if let Some(work) = self.work.get() {
            peers::measured(&mut load_balancers, &work.answers());
        }
        let aside = known.aside.into_iter().collect();
        Some(Mesh { known: status.known, error: known.failure, aside, load_balancers })
    }
}

fn start(board: &Board) -> Start {
    let step = board.starting();
    Start { over: step.is_none(), step }
}

fn conduit(config: &Config) -> Conduit {
    Conduit {
        trench: config.trench.clone(),
        conduit: config.conduit.clone(),
        node: config.host.clone(),
        proxy: config.name.clone(),
        service: config.service_name.clone(),
        load_balancers: config.network_service_name.clone(),
        families: config.families.iter().map(ToString::to_string).collect(),
        mtu: config.mtu,
    }
}

fn verdicts(board: &Board) -> Vec<Verdict> {
    let names = [READINESS, LIVENESS].into_iter().chain(Part::ALL.map(Part::name));
    let verdicts = names.filter_map(|name| {
        let verdict = board.of(name)?;
        Some(Verdict {
            name: name.to_owned(),
            serving: verdict.serving,
            reason: verdict.reason,
            degraded: verdict.degraded,
        })
    });
    verdicts.collect()
}
