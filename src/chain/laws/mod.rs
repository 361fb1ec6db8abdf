// SPDX-License-Identifier: Apache-2.0

//! Conformance tests that every row of a chain must pass, run with one line per row.
//!
//! ```
//! # use nsm::chain::{Element, laws};
//! /// Passes every call on.
//! struct Pass;
//! impl Element for Pass {
//!     const NAME: &'static str = "pass";
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! laws::check(|| Pass).await.unwrap();
//! # }
//! ```
//! The kit puts the row above a service that answers or fails, and calls it in every way: Request,
//! refresh and Close, each answered, failed, and cancelled after every poll. After each, the
//! connection's scope, the number of tasks and the witness (a count of the row's resources outside
//! the chain) must be the same as before the call that failed, was cancelled or was undone.
//!
//! | row | checked by |
//! | --- | --- |
//! | an [`Element`] | [`check`], or [`check_with`] a witness |
//! | a tower layer, hand-written or stock | [`check_layer`] |
//! | a chain with lanes of its own: [`begin`](crate::chain::begin) and all rows below | [`check_chain`] |
//!
//! # Runtime
//! Run each check in a current-thread runtime of its own, with paused time:
//! `#[tokio::test(start_paused = true)]`. Tasks are counted in the whole runtime, so a bare
//! `tokio::spawn` is detected too.
//!
//! # Services over sockets
//! An innermost service, such as [`connect`](crate::elements::connect), calls a peer instead of an
//! inner service. Serve the peer in the same runtime over a unix socket, and let it call the
//! service that the kit puts below. Paused time advances only when every task waits, by a
//! millisecond a poll, and each time the sockets are polled first: because both ends are in one
//! thread, a check takes the same course each time. The peer's own tasks are counted as well, so a
//! connection that is left open is detected by both ends.
//! ```
//! # use std::{path::PathBuf, sync::{Arc, Mutex}};
//! # use nsm::{api::Connection, chain::{Call, Close, Next, Request, laws}};
//! # use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::{UnixListener, UnixStream}};
//! # use tower_layer::layer_fn;
//! # type Error = Box<dyn std::error::Error + Send + Sync>;
//! /// The service: sends a byte to its peer, and expects one back.
//! async fn ask(peer: PathBuf, call: Call) -> Result<Box<Connection>, Error> {
//!     let mut stream = UnixStream::connect(peer).await?;
//!     stream.write_u8(matches!(call, Call::Request(_)).into()).await?;
//!     stream.read_u8().await?;
//!     Ok(call.into_connection())
//! }
//!
//! /// The peer: calls the service below it, until that is done or the caller hangs up.
//! async fn answer(mut stream: UnixStream, below: Next) -> Result<(), Error> {
//!     let connection = Connection::named("a");
//!     let call = match stream.read_u8().await? {
//!         1 => below.request(Request::new(connection)),
//!         _ => below.close(Close::new(connection)),
//!     };
//!     tokio::select! {
//!         answer = call => drop(answer?),
//!         _hung_up = stream.read_u8() => return Ok(()),
//!     }
//!     Ok(stream.write_u8(0).await?)
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Error> {
//! # let folder = tempfile::tempdir()?;
//! # let peer = folder.path().join("peer.sock");
//! let (listener, below) = (UnixListener::bind(&peer)?, Arc::new(Mutex::new(None::<Next>)));
//! let next = Arc::clone(&below);
//! tokio::spawn(async move {
//!     while let Ok((stream, _)) = listener.accept().await {
//!         let next = next.lock().unwrap().clone();
//!         tokio::spawn(answer(stream, next.expect("put there before a call")));
//!     }
//! });
//! let layer = || layer_fn(|inner| {
//!     *below.lock().unwrap() = Some(inner);
//!     let peer = peer.clone();
//!     tower::service_fn(move |call| ask(peer.clone(), call))
//! });
//! laws::check_layer(layer, || 0).await?;
//! # Ok(()) }
//! ```

mod each;
mod held;
mod inner;
mod rig;

use std::cell::RefCell;

use tower_layer::Layer;

use self::{
    each::check_all,
    rig::{Owner, Rig},
};
use crate::{
    chain::{
        Chain, Next,
        element::{CallService, Element},
    },
    task::Tasks,
};

/// Maximum number of polls a call of an element may need.
const POLLS: usize = 1000;

/// A law that an element violates.
#[derive(Debug, thiserror::Error)]
#[error("{law}: {what}")]
pub struct Broken {
    /// Name of the law.
    pub law: &'static str,
    /// The observation.
    pub what: String,
}

fn broken<T>(law: &'static str, what: String) -> Result<T, Broken> {
    Err(Broken { law, what })
}

/// Checks an element that holds nothing outside the chain.
///
/// # Errors
/// The first law that is violated.
pub async fn check<E: Element>(make: impl Fn() -> E) -> Result<(), Broken> {
    check_with(make, || 0).await
}

/// Checks an element that holds resources outside the chain; `witness` counts them.
///
/// # Errors
/// The first law that is violated.
pub async fn check_with<E: Element>(make: impl Fn() -> E, witness: impl Fn() -> usize) -> Result<(), Broken> {
    check_layer(|| make().layer(), witness).await
}

/// Checks a row that is written as a tower layer. `witness` counts its resources outside the chain;
/// `|| 0` if nothing.
///
/// # Errors
/// The first law that is violated.
pub async fn check_layer<L>(make: impl Fn() -> L, witness: impl Fn() -> usize) -> Result<(), Broken>
where
    L: Layer<Next, Service: CallService>,
{
    check_all(async || {
        Rig::new(|inner| Ok(Next::of("layer", make().layer(inner))), Owner::rig(), &witness).await
    })
    .await
}

/// Checks a chain from its `begin` on, as seen by a caller. Its lanes finish the calls that they
/// have started: a cancelled call may be done nevertheless, and the Close that follows must leave
/// nothing. `make` receives the owner of the chain's tasks, which are stopped after each law.
///
/// # Errors
/// The first law that is violated; `order` if the chain cannot be built.
pub async fn check_chain(make: impl Fn(&Tasks) -> Chain, witness: impl Fn() -> usize) -> Result<(), Broken> {
    let last = RefCell::new(Tasks::default());
    let checked = check_all(async || {
        let tasks = Tasks::default();
        let before = last.replace(tasks.clone());
        before.stop().await; // the previous law may have left a connection
        Rig::new(|inner| make(&tasks).end(inner).build(), Owner::Lane(tasks.clone()), &witness).await
    });
    let checked = checked.await;
    last.into_inner().stop().await;
    checked
}
