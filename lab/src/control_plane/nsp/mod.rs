// SPDX-License-Identifier: Apache-2.0

//! Serves Meridio's NSP: the configuration that proxies and IPAM watch, and the registry in which
//! targets announce themselves.
//!
//! Every watch answers with the complete list that matches, at once and after each change; a slow
//! watcher gets the latest only. A list that is set again is sent again, also if it is the same. An
//! empty field of a filter matches everything.
//!
//! # Known limits
//! Registered targets do not expire.

mod configuration;
mod filter;
mod targets;

use std::pin::Pin;

use futures::{Stream, stream};
use tokio::sync::watch;
use tonic::Status;

use nsm::api::pb::nsp::v1::{
    Conduit, Target, Trench, Vip, configuration_manager_server::ConfigurationManagerServer,
    target_registry_server::TargetRegistryServer,
};

/// Handle on an NSP. Clones share its lists.
#[derive(Clone, Debug)]
pub struct Nsp {
    trench: Trench,
    vips: watch::Sender<Vec<Vip>>,
    conduits: watch::Sender<Vec<Conduit>>,
    targets: watch::Sender<Vec<Target>>,
    interrupt: watch::Sender<()>,
}

impl Nsp {
    /// The NSP of a trench, with empty lists, as Meridio's NSP before it has read its
    /// configuration.
    pub fn new(trench: impl Into<String>) -> Self {
        Self {
            trench: Trench { name: trench.into() },
            vips: watch::Sender::default(),
            conduits: watch::Sender::default(),
            targets: watch::Sender::default(),
            interrupt: watch::Sender::default(),
        }
    }

    /// Replaces the VIPs, given as name and prefix in CIDR notation. Nothing is checked.
    pub fn set_vips<N: Into<String>, A: Into<String>>(&self, vips: impl IntoIterator<Item = (N, A)>) {
        let trench = Some(&self.trench);
        self.vips.send_replace(
            vips.into_iter()
                .map(|(name, address)| Vip {
                    name: name.into(),
                    address: address.into(),
                    trench: trench.cloned(),
                })
                .collect(),
        );
    }

    /// Replaces the conduits, given by name.
    pub fn set_conduits<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) {
        let trench = Some(&self.trench);
        self.conduits.send_replace(
            names
                .into_iter()
                .map(|name| Conduit { name: name.into(), trench: trench.cloned(), ..Conduit::default() })
                .collect(),
        );
    }

    /// Ends all watches with `Unavailable`, as a restart does. The lists stay.
    pub fn interrupt(&self) {
        self.interrupt.send_replace(());
    }

    /// Number of open watches.
    pub fn watches(&self) -> usize {
        self.interrupt.receiver_count()
    }

    /// The registered targets, in order of their first registration.
    pub fn targets(&self) -> Vec<Target> {
        self.targets.borrow().clone()
    }

    /// The gRPC service of the configuration.
    pub fn configuration_manager(&self) -> ConfigurationManagerServer<Self> {
        ConfigurationManagerServer::new(self.clone())
    }

    /// The gRPC service of the targets.
    pub fn target_registry(&self) -> TargetRegistryServer<Self> {
        TargetRegistryServer::new(self.clone())
    }

    /// Answers with the present list and after each change, until interrupted.
    fn watch<T, A>(
        &self,
        list: &watch::Sender<T>,
        answer: impl Fn(&T) -> A + Send + Sync + 'static,
    ) -> Watch<A>
    where
        T: Send + Sync + 'static,
        A: Send + 'static,
    {
        let mut list = list.subscribe();
        let interrupt = self.interrupt.subscribe();
        list.mark_changed();
        let answers = stream::unfold(Some((list, interrupt, answer)), |open| async {
            let (mut list, mut interrupt, answer) = open?;
            tokio::select! {
                biased;
                _ = interrupt.changed() => Some((Err(Status::unavailable("interrupted")), None)),
                changed = list.changed() => {
                    changed.ok()?;
                    let now = answer(&list.borrow_and_update());
                    Some((Ok(now), Some((list, interrupt, answer))))
                }
            }
        });
        Box::pin(answers)
    }
}

/// The answers of a watch.
type Watch<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;
