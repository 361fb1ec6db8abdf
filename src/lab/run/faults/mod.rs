// SPDX-License-Identifier: Apache-2.0
//! Let one thing go wrong under traffic, for a time, and judge how long each direction is
//! disturbed: while it lasts, and after it is undone.

mod act;
mod list;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

pub(super) use self::{act::Act, list::FAULTS};
use super::{
    Run, bring_up, eventually,
    traffic::{self, Direction, Traffic, UNDER_WAY},
    verdict::Verdict,
};
use crate::lab::{
    error::{LabError, explain},
    traffic::record::Loss,
    world::{World, datapath::Datapath},
};

/// How long traffic is watched before the fault: it must lose nothing.
const BEFORE: Duration = Duration::from_millis(300);
/// How long traffic must lose nothing until it counts as whole again.
const QUIET: Duration = Duration::from_secs(1);
/// How long that is waited for.
const RECOVERY: Duration = Duration::from_secs(60);

/// One thing that goes wrong.
pub(super) struct Fault {
    /// Its name, by which it is chosen or left out.
    pub name: &'static str,
    /// The promise, which is the verdict's name.
    pub promise: &'static str,
    /// What is done.
    pub act: Act,
    /// Longest disturbance of ingress and egress.
    pub bounds: [Bound; 2],
    /// How it is undone, unless it is over at once.
    pub reversal: Option<Reversal>,
}

/// The end of a fault.
#[derive(Clone, Copy)]
pub(super) struct Reversal {
    /// Time from the act to its reversal.
    pub after: Duration,
    /// Longest disturbance of ingress and egress by the reversal.
    pub bounds: [Bound; 2],
}

/// How much a direction may be disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Nothing is lost.
    Nothing,
    /// The first datagram behind the last lost one is sent so long after the event, at most.
    Within(Duration),
    /// No flow has a gap longer than this. What follows the event comes connection by connection.
    Gaps(Duration),
    /// Not judged: the fault takes the path itself away.
    Any,
}

impl Bound {
    fn holds(self, loss: Loss) -> bool {
        match self {
            Self::Nothing => loss.lost == 0,
            Self::Within(longest) => loss.whole_after.is_some_and(|after| after <= longest),
            Self::Gaps(longest) => loss.whole_after.is_some() && loss.longest_gap <= longest,
            Self::Any => true,
        }
    }
}

/// What was seen of a fault.
struct Seen {
    /// The traffic's start, the act, its reversal, and the end of the observation.
    start: Instant,
    act: Instant,
    reversal: Instant,
    end: Instant,
    /// Time until the kernel was as before; `None` if it was not in time, or that is not what the
    /// fault is about.
    restored: Option<Duration>,
}

/// Perform every fault of the list that is chosen.
pub(super) async fn all(run: &mut Run) -> Result<(), LabError> {
    let plan = run.plan.clone();
    for fault in FAULTS.iter().filter(|fault| plan.takes(fault.name)) {
        perform(run, fault).await?;
    }
    Ok(())
}

/// Perform a fault and judge it. What could not be done is a failed verdict too.
async fn perform(run: &mut Run, fault: &Fault) -> Result<(), LabError> {
    let traffic = Traffic::start(&run.world, &run.world.topology.vips())?;
    let verdict = match go_through(run, fault, &traffic).await {
        Ok(seen) => judge(run, fault, &traffic, &seen),
        Err(error) => Verdict::new(fault.promise, false).figure("stopped by", explain(&error)),
    };
    drop(traffic);
    run.judge(verdict.figure("fault", fault.name));
    if let Err(error) = bring_up::ready(run).await {
        let verdict = Verdict::new("the proxy is ready after a fault", false);
        run.judge(verdict.figure("fault", fault.name).figure("stopped by", explain(&error)));
    }
    Ok(())
}

async fn go_through(run: &mut Run, fault: &Fault, traffic: &Traffic) -> Result<Seen, LabError> {
    let start = Instant::now();
    sleep(BEFORE + UNDER_WAY).await;
    let before = run.world.datapath(0).await?;
    let act = fault.act.begin(&mut run.world).await?;
    let mut restored = None;
    let mut reversal = act;
    match fault.reversal {
        Some(after) => {
            sleep_until(act + after.after).await;
            reversal = fault.act.end(&mut run.world).await?;
        }
        None => restored = as_before(&run.world, &before, act).await,
    }
    whole(&run.world, traffic, reversal).await;
    Ok(Seen { start, act, reversal, end: Instant::now() - UNDER_WAY, restored })
}

/// Wait until everybody has all connections again and traffic is whole, or for long: what does not
/// recover has a verdict of its own.
async fn whole(world: &World, traffic: &Traffic, from: Instant) {
    let mut connected = None;
    let _never = eventually("traffic is whole", RECOVERY, async || {
        world.has_all_connections()?;
        let connected = *connected.get_or_insert_with(Instant::now);
        let since = from.max(connected).max(Instant::now() - QUIET - UNDER_WAY);
        let whole = Direction::BOTH.iter().all(|direction| traffic.is_whole(*direction, since));
        let long = since + QUIET <= Instant::now() - UNDER_WAY;
        if whole && long { Ok(()) } else { Err("it is not".into()) }
    })
    .await;
}

/// Time until the kernel of the first proxy is as before.
async fn as_before(world: &World, before: &Datapath, since: Instant) -> Option<Duration> {
    let restored = eventually("the kernel is as before", QUIET, async || {
        let now = world.datapath(0).await.map_err(|error| explain(&error))?;
        if now == *before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    restored.await.is_ok().then(|| since.elapsed())
}

fn judge(run: &Run, fault: &Fault, traffic: &Traffic, seen: &Seen) -> Verdict {
    let leaked = traffic.leaked(&run.world);
    let mut verdict = Verdict::new(fault.promise, leaked == 0).figure("leaked", leaked);
    for (index, direction) in Direction::BOTH.into_iter().enumerate() {
        let name = direction.name();
        let before = traffic.loss(direction, seen.start..seen.act);
        if before.lost > 0 {
            verdict.ok = false;
            verdict = verdict.figure(&format!("{name} before"), traffic::figure(before));
        }
        let mut periods = Vec::new();
        match fault.reversal {
            None => periods.push((name.to_owned(), fault.bounds[index], seen.act..seen.end)),
            Some(reversal) => {
                periods.push((name.to_owned(), fault.bounds[index], seen.act..seen.reversal));
                periods.push((format!("{name} then"), reversal.bounds[index], seen.reversal..seen.end));
            }
        }
        for (name, bound, period) in periods {
            let loss = traffic.loss(direction, period.clone());
            let holds = loss.sent > 0 && bound.holds(loss);
            if !holds {
                let details = traffic.details(direction, &period).join("\n          ");
                eprintln!("          {name}: promised {bound:?}\n          {details}");
            }
            verdict.ok &= holds;
            verdict = verdict.figure(&name, traffic::figure(loss));
        }
    }
    if let Act::Foreign(_) = fault.act {
        verdict.ok &= seen.restored.is_some();
        let restored = seen.restored.map(bring_up::milliseconds);
        verdict = verdict.figure("kernel as before ms", restored);
    }
    verdict
}
