// SPDX-License-Identifier: Apache-2.0
//! Sends the descriptor that an answer names back to the caller, if it is the caller's own (NSM
//! `sendfd` of a hop in the middle).
//!
//! A client has no use for it, and must close it.

use std::sync::Arc;

use nsm::{
    api::{Connection, Mechanism},
    chain::{Element, Next, Order, Request, Result},
    elements::recv_fd::FromCaller,
    transport::Caller,
};

/// Element above `recv_fd`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReturnFd;

impl Element for ReturnFd {
    const NAME: &'static str = "return_fd";
    const ORDER: Order = Order::STATE.before(&["recv_fd"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let hub = request.context.extensions.get::<Caller>().and_then(|caller| caller.hub.clone());
        let answer = next.request(request).await?;
        let received = scope.get::<FromCaller>();
        let named = answer.mechanism.as_ref().and_then(Mechanism::inode);
        let own = received.as_ref().zip(named).and_then(|(received, inode)| received.0.get(inode));
        if let (Some(hub), Some(descriptor)) = (hub, own) {
            // No peer waits for it, so a failure does not fail the Request.
            let _ = hub.send(Arc::clone(descriptor));
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use tower::layer::layer_fn;
    use tower_layer::Layer;

    use super::*;
    use nsm::{
        chain::{CallContext, laws},
        elements::recv_fd,
        testing::{self, Counted, Given, kernel},
    };

    /// The element, with a check that the descriptor is on its way back with every answer.
    struct Returns;

    impl Element for Returns {
        const NAME: &'static str = ReturnFd::NAME;

        async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
            let hub = request.context.extensions.get::<Caller>().and_then(|caller| caller.hub.clone());
            let answer = ReturnFd.request(request, next).await?;
            assert_eq!(hub.unwrap().queued(), 1);
            Ok(answer)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let file = Counted::new();
        let caller = testing::caller();
        laws::check_layer(
            || {
                let file = file.clone();
                let caller = caller.clone();
                let given = move |connection: &mut Connection, context: &mut CallContext| {
                    connection.mechanism = Some(kernel(file.inode()));
                    context.extensions.insert(Caller { hub: Some(file.arriving()), ..caller.clone() });
                };
                layer_fn(move |next| {
                    let below = recv_fd::Endpoint.layer().layer(next);
                    Given(Returns, given.clone()).layer().layer(below)
                })
            },
            || file.open(),
        )
        .await
        .unwrap();
    }
}
