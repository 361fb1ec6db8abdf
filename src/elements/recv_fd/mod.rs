// SPDX-License-Identifier: Apache-2.0

//! Waits for the descriptors that messages name, and keeps them (NSM `recvfd`).
//!
//! For pass-throughs: an nsmgr passes them on, a forwarder opens them. They are identified by
//! inode, so the messages stay unchanged.
//! 1. The descriptors of a call are those named by `inode://` URLs in its preferences and its
//!    mechanism.
//! 2. One that is held already is not waited for: a refresh may come without it.
//! 3. The others are waited for until shortly before the deadline, so that the caller learns which
//!    one is missing.
//! 4. Descriptors that a later Request no longer names are closed when it succeeds, the rest when
//!    the connection is gone.
//!
//! # State
//! [`FromCaller`] and [`FromNext`], in which elements below and above find the descriptors.
//!
//! # Close
//! Does not wait. The descriptors that are held are passed on.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    api::{Connection, Inode, Mechanism},
    chain::{CallContext, Close, Element, Next, Order, Origin, Reason, Request, Result},
    transport::{Caller, FdHub, SendFds, Wire},
};

/// Time left for the answer after waiting (rule 3).
const MARGIN: Duration = Duration::from_millis(250);

/// Descriptors by device and inode number. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Descriptors(BTreeMap<Inode, Arc<OwnedFd>>);

/// The descriptors that the caller sent with its Request; in the scope.
#[derive(Clone, Debug)]
pub struct FromCaller(pub Descriptors);

/// The descriptors that the next hop sent with its answer; in the scope.
#[derive(Clone, Debug)]
pub struct FromNext(pub Descriptors);

/// Element for the endpoint chain of a pass-through: waits before the call is passed on, and sends
/// the descriptors to the next hop.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::recv_fd,
///     task::Tasks,
///     testing::{self, Counted},
///     transport::Caller,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let chain = Chain::new()
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(recv_fd::Endpoint)
///     .build()?;
///
/// let file = Counted::new();
/// let mut request = Request::new(Connection::named("a"));
/// request.preferences = vec![testing::kernel(file.inode())];
/// let caller = Caller { hub: Some(file.arriving()), ..testing::caller() };
/// request.context.extensions.insert(caller);
/// chain.request(request).await?;
/// assert_eq!(file.open(), 2, "that of the caller, and the one that is held for the connection");
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint;

/// Element for the client chain of a pass-through: waits for the descriptors that the answer names.
/// The wire must keep received descriptors, see [`connect`](super::connect).
///
/// ```
/// use nsm::{
///     api::{Connection, Mechanism, MechanismKind},
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::{connect::Connect, recv_fd, send_fd::{self, Netns}},
///     task::Tasks,
///     testing,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let netns = Netns::own()?;
/// let peer = testing::serve(Chain::new().with(send_fd::Endpoint::new(netns.clone())).build()?).await;
///
/// let tasks = Tasks::default();
/// let chain = Chain::new()
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(recv_fd::Client)
///     .end(Connect::new(peer.dialer.clone()).keep_descriptors())
///     .build()?;
/// let mut connection = Connection::named("a");
/// connection.mechanism = Some(Mechanism::local(MechanismKind::Kernel));
/// let answer = chain.request(Request::new(connection)).await?; // the descriptor is held
/// assert_eq!(answer.mechanism.and_then(|agreed| agreed.inode()), Some(netns.inode()));
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Client;

impl Descriptors {
    /// One descriptor.
    ///
    /// # Errors
    /// The error of `fstat`.
    pub fn of(descriptor: Arc<OwnedFd>) -> std::io::Result<Self> {
        Ok(Self(BTreeMap::from([(Inode::of(&descriptor)?, descriptor)])))
    }

    /// The descriptor of an inode.
    pub fn get(&self, inode: Inode) -> Option<&Arc<OwnedFd>> {
        self.0.get(&inode)
    }

    /// Number of descriptors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Rules 1 to 4: the named descriptors, from those held and, until shortly before the deadline,
/// from the hub.
async fn collect<'a>(
    named: impl Iterator<Item = &'a Mechanism>,
    held: Option<&Descriptors>,
    hub: Option<&Arc<FdHub>>,
    deadline: Instant,
) -> Result<Descriptors> {
    let until = deadline.checked_sub(MARGIN).unwrap_or(deadline);
    let mut found = Descriptors::default();
    for inode in named.filter_map(Mechanism::inode) {
        if found.get(inode).is_some() {
            continue;
        }
        let fd = match (held.and_then(|held| held.get(inode)), hub) {
            (Some(fd), _) => Some(Arc::clone(fd)),
            (None, Some(hub)) => hub.take(inode, until).await.map(Arc::new),
            (None, None) => None,
        };
        let fd = fd.ok_or_else(|| {
            Reason::Unavailable(format!("the descriptor of {inode} did not come with the call"))
        })?;
        found.0.insert(inode, fd);
    }
    Ok(found)
}

fn hand_on(context: &mut CallContext, descriptors: &Descriptors) {
    if !descriptors.is_empty() {
        context.extensions.insert(SendFds(descriptors.0.values().cloned().collect()));
    }
}

impl Element for Endpoint {
    const NAME: &'static str = "recv_fd";
    const ORDER: Order = Order::STATE.before(&["mechanism"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let context = &request.context;
        let held = context.scope.get::<FromCaller>();
        let caller = context.extensions.get::<Caller>().filter(|_| context.origin == Origin::Caller);
        let hub = caller.and_then(|caller| caller.hub.as_ref());
        let named = request.preferences.iter().chain(&request.connection.mechanism);
        let found = collect(named, held.as_deref().map(|held| &held.0), hub, context.deadline).await?;
        hand_on(&mut request.context, &found);
        request.context.scope.insert(FromCaller(found));
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        if let Some(held) = close.context.scope.get::<FromCaller>() {
            hand_on(&mut close.context, &held.0);
        }
        next.close(close).await
    }
}

impl Element for Client {
    const NAME: &'static str = "recv_fd_client";
    const ORDER: Order = Order::STATE;

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let deadline = request.context.deadline;
        let connection = next.request(request).await?;
        let held = scope.get::<FromNext>();
        let wire = scope.get::<Wire>();
        let hub = wire.as_ref().and_then(|wire| wire.hub());
        let named = connection.mechanism.iter();
        let found = collect(named, held.as_deref().map(|held| &held.0), hub, deadline).await?;
        scope.insert(FromNext(found));
        Ok(connection)
    }
}

#[cfg(test)]
mod tests;
