// SPDX-License-Identifier: Apache-2.0

//! A node with an nsmgr and the lab's forwarder, and a pod for each end of a connection.

use std::time::Duration;

use meridio_lab::{
    control_plane::forwarder::Forwarder,
    identity::agent::Agent,
    pods::{ground::Ground, pod::Pod},
};
use nsm::{
    Client,
    elements::{
        mechanism::{self, Names},
        send_fd::{self, Netns},
    },
    task::Tasks,
    transport::Address,
};
use tempfile::TempDir;

/// Longest wait for each step.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Folder of the pods: a program of a pod sees its own `/tmp` only.
const PODS: &str = "/dev/shm";

/// The nsmgr of a node.
pub(crate) trait Manager: Sized {
    /// Starts it in the pod of the node; returns the address at which it is called.
    fn start(node: &Pod, agent: &mut Agent, tasks: &Tasks) -> (Self, Address);

    /// The end of its log.
    fn log(&self) -> String;

    /// Stops it in order.
    async fn stop(self);
}

pub(crate) struct Stage<M> {
    pub(crate) agent: Agent,
    pub(crate) tasks: Tasks,
    pub(crate) manager: M,
    pub(crate) nsmgr: Address,
    pub(crate) forwarder: Forwarder,
    pub(crate) server: Pod,
    pub(crate) visitor: Pod,
    _folder: TempDir,
    _node: Pod,
}

impl<M: Manager> Stage<M> {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir_in(PODS).unwrap();
        let ground = Ground::unnamed(folder.path());
        let tasks = Tasks::default();
        let mut agent = Agent::new().unwrap();
        let node = Pod::new("forwarder", &ground).await.expect("root, or a user namespace (`lab exec`)");
        let server = Pod::new("server", &ground).await.unwrap();
        let visitor = Pod::new("visitor", &ground).await.unwrap();
        let (manager, nsmgr) = M::start(&node, &mut agent, &tasks);
        let identity = agent.identity(&node.name, &node.folder, &tasks).unwrap();
        let forwarder = Forwarder::start(&node, &nsmgr, identity).unwrap();
        let registered = forwarder.registered(LIMIT).await;
        assert!(registered.is_ok(), "{registered:?}; {}", manager.log());
        Self { agent, tasks, manager, nsmgr, forwarder, server, visitor, _folder: folder, _node: node }
    }

    /// A client of the SDK in the visitor's pod.
    pub(crate) fn client(&mut self) -> Client {
        let identity = self.agent.identity(&self.visitor.name, &self.visitor.folder, &self.tasks).unwrap();
        Client::builder(&self.visitor.name, identity, &self.nsmgr, &self.tasks)
            .with(mechanism::Client::new(Names::new(|_| false)))
            .with(send_fd::Client::new(Netns::of(self.visitor.netns.descriptor()).unwrap()))
            .build()
            .unwrap()
    }

    /// Ends everything.
    pub(crate) async fn end(self) {
        self.forwarder.stop().await;
        self.manager.stop().await;
        self.tasks.stop().await;
    }
}
