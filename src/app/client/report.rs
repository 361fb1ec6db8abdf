// SPDX-License-Identifier: Apache-2.0

//! Reports the answers of a connection to its link, also those of Requests that the chain starts.
//!
//! The first Request brings the link's sender in its extensions; from then on it is in the scope.

use tokio::sync::watch;

use super::LinkState;
use crate::{
    api::Connection,
    chain::{Element, EventKind, Next, Order, Origin, Request, Result, causes},
};

/// The row of a client's chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report;

/// The link of a connection.
#[derive(Clone, Debug)]
pub(super) struct Reporter(pub(super) watch::Sender<LinkState>);

impl Reporter {
    /// Publishes a state, unless the link ends.
    pub(super) fn report(&self, state: LinkState) -> bool {
        self.0.send_if_modified(|now| {
            let changed = !now.ends() && *now != state;
            if changed {
                *now = state;
            }
            changed
        })
    }
}

impl Element for Report {
    const NAME: &'static str = "report";
    const ORDER: Order = Order::STATE.after(&["heal"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let context = &request.context;
        let scope = context.scope.clone();
        if let Some(reporter) = context.extensions.get::<Reporter>() {
            scope.insert(reporter.clone());
        }
        let Some(reporter) = scope.get::<Reporter>() else { return next.request(request).await };
        let heals = context.origin == Origin::Event(EventKind::Heal);
        if heals {
            reporter.report(LinkState::Healing { error: None });
        }
        let answer = next.request(request).await;
        match &answer {
            Ok(connection) => drop(reporter.report(LinkState::Up(connection.clone().into()))),
            Err(error) if heals => {
                reporter.report(LinkState::Healing { error: Some(causes(error)) });
            }
            Err(_) => {}
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::laws;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| Report).await.unwrap();
    }
}
