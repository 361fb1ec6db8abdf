// SPDX-License-Identifier: Apache-2.0

//! Refuses answers whose path was not signed by its hops.

use std::time::SystemTime;

use crate::{
    api::Connection,
    chain::{CallContext, Close, Element, Next, Order, Reason, Request, Result},
    transport::{Wire, token},
};

/// Element for the client chain: verifies the whole path of an answer with the certificate of the
/// peer.
///
/// If a policy refuses the first answer of a connection, or the first after a Close, the Request
/// fails with [`Reason::Denied`]. Later refusals are only logged: the link carries traffic, and
/// taking it down would punish the targets for a clock or a rotation. A Close is never refused.
///
/// # State
/// A mark that an answer was accepted, until the Close.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::{authorize, connect::Connect, update_path::UpdatePath},
///     task::Tasks,
///     testing,
///     tonic::Code,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let peer = testing::serve(Chain::new().build()?).await; // its answer has no token
/// let chain = Chain::new()
///     .with(UpdatePath::new("client-1"))
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(authorize::Client)
///     .end(Connect::new(peer.dialer.clone()))
///     .build()?;
/// let answer = chain.request(Request::new(Connection::named("a"))).await;
/// assert_eq!(answer.map_err(|error| error.code()), Err(Code::PermissionDenied));
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Client;

struct Accepted;

/// Answers of a chain that ends inside this process did not come over a wire, and are not verified.
fn verify(answer: &Connection, context: &CallContext) -> Result<(), token::Denied> {
    match context.scope.get::<Wire>() {
        Some(wire) => token::verify_answer(answer.segments(), answer.index(), wire.peer(), SystemTime::now()),
        None => Ok(()),
    }
}

impl Element for Client {
    const NAME: &'static str = "authorize";
    const ORDER: Order = Order::STATE.after(&["update_path"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let context = request.context.clone();
        let answer = next.request(request).await?;
        match verify(&answer, &context) {
            Ok(()) => {
                context.scope.insert(Accepted);
                Ok(answer)
            }
            Err(denied) if context.scope.get::<Accepted>().is_some() => {
                tracing::warn!(id = answer.id, %denied, "the refreshed path is not authorized, the connection stays");
                Ok(answer)
            }
            Err(denied) => Err(Reason::Denied(denied.to_string()).into()),
        }
    }

    fn withdraw(&self, close: &Close) {
        drop(close.context.scope.take::<Accepted>());
    }
}
