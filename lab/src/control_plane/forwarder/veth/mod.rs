// SPDX-License-Identifier: Apache-2.0
//! Joins client and endpoint of a Connection by a pair of links (NSM `kernelvethpair`).
//!
//! Towards the client the mechanism is the requested one; towards the endpoint it is a separate
//! one, which the endpoint fills with its namespace and the name of its link. Both ends, their
//! addresses and policies exist before the Request is answered.
//!
//! # State
//! The link, and the mechanism agreed with the endpoint.
//!
//! # Close
//! The next hop closes first; the link is removed regardless of its answer.

use std::os::fd::AsFd;

use super::wiring::{Wired, Wirer, Wiring};
use crate::{error::LabError, network::netns::Netns};
use nsm::{
    api::{Connection, Inode, InterfaceName, Mechanism, MechanismKind, State},
    chain::{CallContext, Close, Element, Error, Next, Order, Reason, Request, Result},
    elements::recv_fd::{FromCaller, FromNext},
    transport::SendFds,
};

/// Element of the forwarder.
#[derive(Clone)]
pub struct Veth(Wirer);

impl Veth {
    /// Makes links with `wirer`.
    pub fn new(wirer: Wirer) -> Self {
        Self(wirer)
    }
}

/// The mechanism agreed with the endpoint, and its namespace.
#[derive(Clone)]
struct Agreed {
    mechanism: Mechanism,
    inode: Inode,
    netns: Netns,
}

fn failed(error: LabError) -> Error {
    Error::from(tower::BoxError::from(error))
}

/// The mechanism that the client requests: the agreed one, else the first KERNEL of its
/// preferences.
fn requested(request: &Request) -> Result<Mechanism> {
    let agreed = request.connection.mechanism.iter().chain(&request.preferences);
    let kernel = agreed.into_iter().find(|mechanism| mechanism.kind() == Some(MechanismKind::Kernel));
    kernel
        .cloned()
        .ok_or_else(|| Reason::Refused("cannot support any of the requested mechanism".into()).into())
}

fn end_of(mechanism: &Mechanism, whose: &str) -> Result<(Inode, InterfaceName)> {
    let missing = |what: &str| Reason::Refused(format!("the {whose}'s mechanism has no {what}"));
    let inode = mechanism.inode().ok_or_else(|| missing("inode URL"))?;
    Ok((inode, mechanism.interface().ok_or_else(|| missing("interface name"))?))
}

/// The endpoint's namespace: the known one, or the descriptor that came with its answer.
fn endpoint(answer: &Connection, context: &CallContext) -> Result<(Agreed, InterfaceName)> {
    let mechanism = answer.mechanism.clone().unwrap_or_default();
    let (inode, name) = end_of(&mechanism, "endpoint")?;
    if let Some(known) = context.scope.get::<Agreed>().filter(|known| known.inode == inode) {
        return Ok((Agreed { mechanism, ..(*known).clone() }, name));
    }
    let received = context.scope.get::<FromNext>();
    let descriptor = received.as_ref().and_then(|received| received.0.get(inode));
    let descriptor = descriptor.ok_or_else(|| Reason::Refused(format!("no descriptor for {inode}")))?;
    let netns = Netns::of(descriptor.as_fd()).map_err(tower::BoxError::from)?;
    Ok((Agreed { mechanism, inode, netns }, name))
}

/// Names the endpoint's descriptor in the mechanism sent to it, as NSM's forwarders do. The
/// client's is not for the endpoint.
fn towards_endpoint(agreed: Option<&Agreed>, context: &mut CallContext) -> Option<Mechanism> {
    context.extensions.remove::<SendFds>();
    let agreed = agreed?;
    context.extensions.insert(SendFds(vec![agreed.netns.descriptor()]));
    Some(agreed.mechanism.clone())
}

impl Element for Veth {
    const NAME: &'static str = "veth";
    const ORDER: Order = Order::STATE.after(&["find"]).before(&["relay"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let context = request.context.clone();
        let client = requested(&request)?;
        let (inode, client_name) = end_of(&client, "client")?;
        let received = context.scope.get::<FromCaller>();
        let descriptor = received.as_ref().and_then(|received| received.0.get(inode));
        let descriptor = descriptor.ok_or_else(|| Reason::Invalid(format!("no descriptor for {inode}")))?;
        let client_netns = Netns::of(descriptor.as_fd()).map_err(tower::BoxError::from)?;

        let reselect = request.connection.state() == State::ReselectRequested;
        let agreed = context.scope.get::<Agreed>().filter(|_| !reselect);
        request.connection.mechanism = towards_endpoint(agreed.as_deref(), &mut request.context);
        request.preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        let mut answer = next.request(request).await?;

        let (agreed, name) = endpoint(&answer, &context)?;
        let wiring = Wiring::of(&answer, (agreed.netns.clone(), name), (client_netns, client_name));
        let before = context.scope.get::<Wired>();
        let wired = self.0.wire(wiring, before.as_deref()).await.map_err(failed)?;
        context.scope.insert(wired);
        context.scope.insert(agreed);
        answer.mechanism = Some(client);
        Ok(answer)
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        let wired = close.context.scope.take::<Wired>();
        let client = close.connection.mechanism.clone();
        let agreed = close.context.scope.get::<Agreed>();
        close.connection.mechanism = towards_endpoint(agreed.as_deref(), &mut close.context);
        let closed = next.close(close).await;
        if let Some(wired) = wired {
            wired.remove().await.map_err(failed)?;
        }
        let mut closed = closed?;
        closed.mechanism = client;
        Ok(closed)
    }
}

#[cfg(test)]
mod tests;
