// SPDX-License-Identifier: Apache-2.0

//! Sends our network namespace with the calls and answers that name it (NSM `sendfd`).
//!
//! A message names the namespace as `inode://<device>/<inode>`; its descriptor travels beside the
//! bytes of the same connection. The forwarder makes the link there. Both go with every Request and
//! Close, because a forwarder or nsmgr that was restarted has lost them.
//!
//! # Order
//! Below `mechanism`, which leaves a placeholder that a peer would take for its own namespace.

use std::{io, os::fd::OwnedFd, sync::Arc};

use rustix::fs::{Mode, OFlags};

use crate::{
    api::{Connection, Inode, Mechanism, MechanismKind, parameter},
    chain::{CallContext, Close, Element, Next, Order, Origin, Reason, Request, Result},
    transport::{Caller, SendFds},
};

/// A network namespace to send. Clones share the descriptor.
///
/// ```
/// use nsm::{api::Inode, elements::send_fd::Netns};
///
/// let own = Netns::own()?;
/// let inode: Inode = own.inode().to_string().parse()?; // as in the mechanism: inode://4/4026531840
/// assert_eq!(inode, own.inode());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    inode: Inode,
}

impl Netns {
    /// The namespace of this thread.
    ///
    /// # Errors
    /// Those of `open` and `fstat`; `/proc` must be mounted.
    pub fn own() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Self::of(Arc::new(rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())?))
    }

    /// The namespace that a descriptor refers to.
    ///
    /// # Errors
    /// Those of `fstat`.
    pub fn of(fd: Arc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { inode: Inode::of(&fd)?, fd })
    }

    /// Device and inode number.
    pub fn inode(&self) -> Inode {
        self.inode
    }

    /// Names the namespace in a mechanism, if it makes a link. Returns whether it does.
    fn name_in(&self, mechanism: &mut Mechanism) -> bool {
        let kernel = mechanism.kind() == Some(MechanismKind::Kernel);
        if kernel {
            mechanism.parameters.insert(parameter::INODE_URL.into(), self.inode.to_string());
        }
        kernel
    }

    /// Adds the descriptor to a call, beside those already in it.
    fn send_with(&self, context: &mut CallContext) {
        let mut fds = context.extensions.remove::<SendFds>().map_or_else(Vec::new, |fds| fds.0);
        fds.push(Arc::clone(&self.fd));
        context.extensions.insert(SendFds(fds));
    }
}

/// Element for the client chain: sends before the call, in every KERNEL preference and in the
/// mechanism.
///
/// ```
/// use nsm::{chain::Chain, elements::send_fd::{Client, Netns}};
///
/// let chain = Chain::new().with(Client::new(Netns::own()?));
/// assert_eq!(chain.to_string(), "send_fd");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    netns: Netns,
}

/// Element for the endpoint chain: sends after the answer, over the connection of the call.
///
/// ```
/// use nsm::{chain::Chain, elements::send_fd::{Endpoint, Netns}};
///
/// let chain = Chain::new().with(Endpoint::new(Netns::own()?));
/// assert_eq!(chain.to_string(), "send_fd");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    netns: Netns,
}

impl Client {
    /// Sends this namespace.
    pub fn new(netns: Netns) -> Self {
        Self { netns }
    }
}

impl Endpoint {
    /// Sends this namespace.
    pub fn new(netns: Netns) -> Self {
        Self { netns }
    }
}

impl Element for Client {
    const NAME: &'static str = "send_fd";
    const ORDER: Order = Order::ANY.after(&["mechanism"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let mechanisms = request.preferences.iter_mut().chain(&mut request.connection.mechanism);
        let named = mechanisms.map(|mechanism| self.netns.name_in(mechanism)).filter(|named| *named).count();
        if named > 0 {
            self.netns.send_with(&mut request.context);
        }
        next.request(request).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        if close.connection.mechanism.as_mut().is_some_and(|mechanism| self.netns.name_in(mechanism)) {
            self.netns.send_with(&mut close.context);
        }
        next.close(close).await
    }
}

impl Element for Endpoint {
    const NAME: &'static str = "send_fd";
    const ORDER: Order = Order::ANY.after(&["mechanism"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let from_caller = request.context.origin == Origin::Caller;
        let caller = request.context.extensions.get::<Caller>().filter(|_| from_caller).cloned();
        let mut connection = next.request(request).await?;
        let named = connection.mechanism.as_mut().is_some_and(|mechanism| self.netns.name_in(mechanism));
        if let (true, Some(caller)) = (named, caller) {
            let hub = caller.hub.as_ref().ok_or_else(|| {
                Reason::Refused(
                    "a KERNEL link needs a caller on a unix socket, to pass the network namespace".into(),
                )
            })?;
            let queued = hub.send(Arc::clone(&self.netns.fd));
            queued.map_err(|error| {
                Reason::Unavailable(format!("cannot send the network namespace: {error}"))
            })?;
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        chain::{Call, Chain, Error, laws},
        testing::Given,
    };

    fn mechanism(kind: &str) -> Mechanism {
        Mechanism { r#type: kind.into(), ..Mechanism::default() }
    }

    /// The end of a chain's view of a call: inode URLs of preferences and mechanism, and inodes of
    /// the descriptors.
    type Seen = (Vec<Option<Inode>>, Vec<Inode>);

    async fn through(request: Request) -> (Seen, Seen) {
        let seen = Arc::new(Mutex::new(Vec::<Seen>::new()));
        let noted = Arc::clone(&seen);
        let end = tower::service_fn(move |call: Call| {
            let fds = call.context().extensions.get::<SendFds>();
            let fds =
                fds.map_or_else(Vec::new, |fds| fds.0.iter().map(|fd| Inode::of(fd).unwrap()).collect());
            let preferences = match &call {
                Call::Request(request) => &*request.preferences,
                Call::Close(_) => &[],
            };
            let urls = preferences.iter().chain(&call.connection().mechanism).map(Mechanism::inode).collect();
            noted.lock().unwrap().push((urls, fds));
            async move { Ok::<_, Error>(call.into_connection()) }
        });
        let chain = Chain::new().with(Client::new(Netns::own().unwrap())).end(end).build().unwrap();
        let connection = chain.request(request).await.unwrap();
        chain.close(Close::new(connection)).await.unwrap();
        let mut seen = seen.lock().unwrap().drain(..).collect::<Vec<_>>().into_iter();
        (seen.next().unwrap(), seen.next().unwrap())
    }

    #[tokio::test]
    async fn one_descriptor_goes_with_each_call_that_names_our_namespace() {
        let own = Netns::own().unwrap().inode();
        let request = |preferences: &[&str], agreed: Option<&str>| {
            let mut connection = Connection::named("a");
            connection.mechanism = agreed.map(mechanism);
            let preferences = preferences.iter().map(|kind| mechanism(kind)).collect();
            Request { preferences, ..Request::new(connection) }
        };
        let (first, close) = through(request(&["MEMIF", "KERNEL"], None)).await;
        assert_eq!(first, (vec![None, Some(own)], vec![own]), "a preference");
        assert_eq!(close, (vec![], vec![]), "nothing was agreed");
        let (refresh, close) = through(request(&["KERNEL"], Some("KERNEL"))).await;
        assert_eq!(
            refresh,
            (vec![Some(own), Some(own)], vec![own]),
            "both name it, one descriptor is enough"
        );
        assert_eq!(close, (vec![Some(own)], vec![own]), "the Close too");
        let (noop, _) = through(request(&["NOOP"], Some("NOOP"))).await;
        assert_eq!(noop, (vec![None, None], vec![]));
    }

    #[tokio::test]
    async fn the_answer_names_our_namespace_in_place_of_any_other() {
        let netns = Netns::own().unwrap();
        let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
        let chain = Chain::new().with(Endpoint::new(netns.clone())).end(end).build().unwrap();
        let mut connection = Connection::named("a");
        let mut kernel = mechanism("KERNEL");
        kernel.parameters.insert(parameter::INODE_URL.into(), "file:///proc/thread-self/ns/net".into());
        connection.mechanism = Some(kernel);
        let answer = chain.request(Request::new(connection)).await.unwrap();
        assert_eq!(answer.mechanism.unwrap().inode(), Some(netns.inode()));
    }

    #[tokio::test(start_paused = true)]
    async fn both_keep_the_laws() {
        let netns = Netns::own().unwrap();
        let given = |c: &mut Connection, _: &mut _| c.mechanism = Some(mechanism("KERNEL"));
        laws::check(|| Given(Client::new(netns.clone()), given)).await.unwrap();
        laws::check(|| Given(Endpoint::new(netns.clone()), given)).await.unwrap();
    }
}
