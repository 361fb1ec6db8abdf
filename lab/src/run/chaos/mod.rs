// SPDX-License-Identifier: Apache-2.0
//! Faults in a random order and at the same time, and the promises that must hold in spite of them:
//! nothing leaks, no address is held twice, no dead load balancer stays a next hop, and traffic is
//! whole when they are over.

mod invariants;
mod schedule;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use self::invariants::Invariants;
use super::{
    Run,
    bring_up::{self, milliseconds},
    eventually,
    faults::{Act, whole},
    reach,
    traffic::Traffic,
    verdict::Verdict,
};
use crate::{error::LabError, world::World};
use nsm::chain::causes;

/// Time between two checks.
const PACE: Duration = Duration::from_millis(100);
/// Timeout until everything is whole when the faults are over.
const WHOLE: Duration = Duration::from_secs(20);

/// Brings everything up, goes through the sequence of a seed, and judges.
pub(super) async fn story(run: &mut Run, seed: u64) -> Result<(), LabError> {
    bring_up::everything(run).await?;
    for vip in run.world.topology.vips() {
        reach::settled(run, vip).await?;
    }
    let acts = schedule::draw(seed);
    let shown = acts.iter().map(|(at, act)| format!("{} ms {act:?}", at.as_millis()));
    let shown = shown.collect::<Vec<_>>().join(", ");
    eprintln!("  seed {seed}: {shown}");
    let traffic = Traffic::start(&run.world, &run.world.topology.vips())?;
    let verdict = match go_through(&mut run.world, &traffic, &acts).await {
        Ok((whole_after, broken)) => {
            let leaked = traffic.leaked(&run.world);
            let good = whole_after.is_some_and(|after| after <= WHOLE) && broken.is_empty() && leaked == 0;
            Verdict::new("whatever fails in whatever order traffic is whole afterwards", good)
                .figure("whole after ms", whole_after.map(milliseconds))
                .figure("broken", broken)
                .figure("leaked", leaked)
        }
        Err(error) => {
            Verdict::new("a sequence of faults can be performed", false).figure("stopped by", causes(&error))
        }
    };
    if !verdict.ok {
        eprintln!("          again: lab --chaos 1 --seed {seed}");
    }
    run.judge(verdict.figure("seed", seed).figure("acts", shown));
    // Traffic may be whole before the last proxy serves its targets.
    bring_up::ready(run).await?;
    // It may also be whole before the targets have found that proxy, which their Close then does
    // not reach.
    for target in &mut run.world.targets {
        eventually("a target is answered", WHOLE, async || {
            target.connect().await.map_err(|error| causes(&error))
        })
        .await?;
    }
    Ok(())
}

/// Performs the acts at their times and checks in between; then returns how long it took until all
/// was whole, and the violations.
async fn go_through(
    world: &mut World,
    traffic: &Traffic,
    acts: &[(Duration, Act)],
) -> Result<(Option<Duration>, String), LabError> {
    let start = Instant::now();
    let mut invariants = Invariants::new();
    let mut again = Vec::new();
    for (at, act) in acts {
        while Instant::now() + PACE < start + *at {
            invariants.check(world).await?;
            sleep(PACE).await;
        }
        sleep_until(start + *at).await;
        invariants.before(world, *act).await?;
        perform(world, *act, &mut again).await?;
        invariants.after(*act);
    }
    let over = Instant::now();
    for target in again {
        world.targets[target].connect().await?;
    }
    for lb in world.lbs.values() {
        // A load balancer that does not return in time shows in the traffic.
        let _never = lb.balanced(WHOLE).await;
    }
    let whole = match whole(world, traffic, over).await {
        Ok(()) => Some(over.elapsed()),
        Err(error) => {
            eprintln!("          {}", causes(&error));
            None
        }
    };
    invariants.check(world).await?;
    Ok((whole, invariants.broken()))
}

/// Performs an act without waiting for its consequences.
async fn perform(world: &mut World, act: Act, again: &mut Vec<usize>) -> Result<(), LabError> {
    match act {
        Act::LoseLb(lb, mishap) => world.lose_lb(lb, mishap).await,
        Act::ReturnLb(lb) => world.return_lb(lb).await,
        Act::Relink(target) => {
            // A target repeats its Request until it is answered.
            if world.relink(target).await.is_err() {
                again.push(target);
            }
            Ok(())
        }
        Act::Meddle(hand) => {
            // A proxy that is starting may have nothing yet that could be changed.
            let _nothing = world.meddle(hand).await;
            Ok(())
        }
        act => act.perform(world).await.map(drop),
    }
}
