// SPDX-License-Identifier: Apache-2.0
//! What can go wrong, as acts on the world, each with its reversal.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::lab::{
    error::LabError,
    run::traffic::PACE,
    world::{World, components::Component, foreign::Hand, mishaps::Mishap},
};

/// How long a load balancer that returns may take to have its links.
const RETURN: Duration = Duration::from_secs(60);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab::run) enum Act {
    /// A load balancer, by its number, is gone in some way; the reversal is its return.
    Lb(usize, Mishap),
    /// All load balancers leave; the reversal is their return.
    EveryLb,
    /// The link of a target, by its number, is lost and made again: same address, another
    /// link-layer address.
    Relink(usize),
    /// The proxy ends, killed or asked, while a component may be away; the reversal is the start of
    /// the next one, with the component still away.
    Restart {
        /// Whether it is killed.
        kill: bool,
        /// What is away meanwhile.
        without: Option<Component>,
    },
    /// A component is killed; the reversal is its start.
    Away(Component),
    /// Somebody else changes what is the proxy's in the kernel.
    Foreign(Hand),
}

impl Act {
    /// Do it. Returns the moment at which it took effect.
    ///
    /// # Errors
    /// It could not be done.
    pub(in crate::lab::run) async fn begin(&self, world: &mut World) -> Result<Instant, LabError> {
        match *self {
            Self::Lb(lb, mishap) => {
                let others: Vec<_> = world.lb_numbers().into_iter().filter(|other| *other != lb).collect();
                route_around(world, &others).await?;
                let now = Instant::now();
                world.lose_lb(lb, mishap).await?;
                Ok(now)
            }
            Self::EveryLb => {
                let now = Instant::now();
                for lb in world.lb_numbers() {
                    world.lose_lb(lb, Mishap::Leaves).await?;
                }
                Ok(now)
            }
            Self::Relink(target) => {
                let now = Instant::now();
                world.relink(target).await?;
                Ok(now)
            }
            Self::Restart { kill, without } => {
                if let Some(component) = without {
                    world.kill(component);
                }
                let now = Instant::now();
                world.end_proxy(0, kill).await?;
                Ok(now)
            }
            Self::Away(component) => {
                let now = Instant::now();
                world.kill(component);
                Ok(now)
            }
            Self::Foreign(hand) => {
                let now = Instant::now();
                world.meddle(hand).await?;
                Ok(now)
            }
        }
    }

    /// Undo it. Returns the moment at which that took effect.
    ///
    /// # Errors
    /// It could not be undone.
    pub(in crate::lab::run) async fn end(&self, world: &mut World) -> Result<Instant, LabError> {
        let now = Instant::now();
        match *self {
            Self::Lb(lb, mishap) => {
                world.return_lb(lb, mishap).await?;
                serve_again(world, &[lb]).await?;
            }
            Self::EveryLb => {
                let all: Vec<_> = (0..world.topology.lbs).collect();
                for lb in &all {
                    world.return_lb(*lb, Mishap::Leaves).await?;
                }
                serve_again(world, &all).await?;
            }
            Self::Restart { .. } => world.start_proxy(0)?,
            Self::Away(component) => world.start(component)?,
            Self::Relink(_) | Self::Foreign(_) => {}
        }
        Ok(now)
    }
}

/// Let the client use these load balancers only, and wait for what is under way to the others.
async fn route_around(world: &World, lbs: &[usize]) -> Result<(), LabError> {
    world.fabric.route_client(&world.topology, lbs).await?;
    sleep(PACE * 2).await;
    Ok(())
}

/// Let the client use a load balancer again as soon as it reaches every target.
async fn serve_again(world: &World, lbs: &[usize]) -> Result<(), LabError> {
    for lb in lbs.iter().filter_map(|lb| world.lbs.get(lb)) {
        lb.balanced(RETURN).await?;
    }
    world.fabric.route_client(&world.topology, &world.lb_numbers()).await
}
