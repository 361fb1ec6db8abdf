// SPDX-License-Identifier: Apache-2.0
//! The acts on the world of which faults consist.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::renumber::renumber;
use crate::{
    error::LabError,
    run::traffic::PACE,
    world::{World, components::Component, foreign::Hand, mishaps::Mishap},
};

/// Timeout for a returning load balancer to have its links.
const RETURN: Duration = Duration::from_secs(60);
/// A load balancer that resolved a link-layer address while it was cut off retries a second later.
const ASKED_AGAIN: Duration = Duration::from_millis(1_200);

/// An act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Act {
    /// A load balancer, by its number, is lost in some way.
    LoseLb(usize, Mishap),
    /// It returns.
    ReturnLb(usize),
    /// All load balancers leave.
    LoseEveryLb,
    /// They return.
    ReturnEveryLb,
    /// The link of a target, by its number, is lost and made again: same address, another
    /// link-layer address.
    Relink(usize),
    /// The first node's proxy is killed.
    KillProxy,
    /// The first node's proxy ends when asked, within this time.
    EndProxy(Duration),
    /// Another process of it starts.
    StartProxy,
    /// A component is killed.
    Kill(Component),
    /// It starts again.
    Start(Component),
    /// Stops a component, or lets it continue.
    Hang(Component, bool),
    /// Another program changes the proxy's part of the kernel.
    Meddle(Hand),
    /// IPAM loses its store and returns another subnet, until every connection has moved.
    Renumber,
}

impl Act {
    /// Performs the act. Returns the moment at which it took effect.
    ///
    /// # Errors
    /// It could not be done.
    pub(in crate::run) async fn perform(&self, world: &mut World) -> Result<Instant, LabError> {
        if let Self::LoseLb(lb, _) = self {
            let others: Vec<_> = world.lb_numbers().into_iter().filter(|other| other != lb).collect();
            world.fabric.route_client(&world.topology, &others).await?;
            // The others may not answer datagrams of the client that are in transit.
            sleep(PACE * 2).await;
        }
        let now = Instant::now();
        match *self {
            Self::LoseLb(lb, mishap) => world.lose_lb(lb, mishap).await?,
            Self::ReturnLb(lb) => {
                world.return_lb(lb).await?;
                serve_again(world, &[lb]).await?;
            }
            Self::LoseEveryLb => {
                for lb in world.lb_numbers() {
                    world.lose_lb(lb, Mishap::Leaves).await?;
                }
            }
            Self::ReturnEveryLb => {
                let all: Vec<_> = (0..world.topology.lbs).collect();
                for lb in &all {
                    world.return_lb(*lb).await?;
                }
                serve_again(world, &all).await?;
            }
            Self::Relink(target) => world.relink(target).await?,
            Self::KillProxy => world.kill_proxy(0).await?,
            Self::EndProxy(within) => world.end_proxy(0, within).await?,
            Self::StartProxy => world.start_proxy(0)?,
            Self::Kill(component) => world.kill(component),
            Self::Start(component) => world.start(component)?,
            Self::Hang(component, hangs) => world.hang(component, hangs)?,
            Self::Meddle(hand) => world.meddle(hand).await?,
            Self::Renumber => renumber(world).await?,
        }
        Ok(now)
    }
}

/// Lets the client use load balancers again as soon as they reach every target.
async fn serve_again(world: &World, lbs: &[usize]) -> Result<(), LabError> {
    for lb in lbs.iter().filter_map(|lb| world.lbs.get(lb)) {
        lb.balanced(RETURN).await?;
    }
    sleep(ASKED_AGAIN).await;
    world.fabric.route_client(&world.topology, &world.lb_numbers()).await
}
