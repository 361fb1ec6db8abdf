// SPDX-License-Identifier: Apache-2.0

//! Targets that join through nsmgr and forwarder: one after the other, and many at once.

use std::time::{Duration, Instant};

use futures::{StreamExt, future::join_all, stream};
use meridio_lab::world::target::Target;
use tokio::time::sleep;

use super::{
    Plan,
    figures::{Figures, milliseconds},
    place::Place,
};

async fn timed(target: &mut Target) -> Duration {
    let start = Instant::now();
    target.connect().await.unwrap();
    start.elapsed()
}

async fn close(place: &mut Place) {
    join_all(place.world.targets.drain(..).map(Target::stop)).await;
}

#[allow(clippy::cast_precision_loss)]
pub(crate) async fn measure(place: &mut Place, plan: Plan, figures: &mut Figures) {
    let mut times = Vec::new();
    for _target in 0..plan.alone {
        place.add_targets(1);
        times.push(timed(place.world.targets.last_mut().unwrap()).await);
    }
    figures.add_times("a target joins", times);
    close(place).await;

    let mut times = Vec::new();
    let mut walls = Duration::ZERO;
    let mut processor = Duration::ZERO;
    let mut resident = 0.0_f64;
    let mut idle = Duration::ZERO;
    for _round in 0..plan.rounds {
        place.add_targets(plan.at_once);
        let start = Instant::now();
        let before = place.processor();
        times.extend(join_all(place.world.targets.iter_mut().map(timed)).await);
        walls += start.elapsed();
        processor += place.processor() - before;
        resident = resident.max(place.resident());
        sleep(plan.settles).await;
        let before = place.processor();
        sleep(plan.idle).await;
        idle += place.processor() - before;
        close(place).await;
    }
    let at_once = plan.at_once;
    let joins = times.len() as f64;
    figures.add_times(&format!("{at_once} targets join at once"), times);
    let each = |time: Duration, count: f64| milliseconds(time) / count;
    figures.add(format!("{at_once} targets join at once: all, ms"), each(walls, plan.rounds as f64));
    figures.add(format!("{at_once} targets join at once: processor ms for each"), each(processor, joins));
    figures.add(format!("{at_once} targets: resident KiB"), resident);
    let seconds = plan.idle.as_secs_f64() * plan.rounds as f64;
    figures.add(format!("{at_once} idle targets: processor ms in a second"), each(idle, seconds));
}

/// Connects these targets, some at a time.
async fn timed_each(targets: &mut [Target]) -> Vec<Duration> {
    stream::iter(targets.iter_mut().map(timed)).buffer_unordered(AT_A_TIME).collect().await
}

/// Number of targets that join at the same time, of many.
const AT_A_TIME: usize = 10;

/// Lets many targets join that stay: each joins beside more links than the previous one.
#[allow(clippy::cast_precision_loss)]
pub(crate) async fn many(place: &mut Place, count: usize, figures: &mut Figures) {
    place.add_targets(count);
    let start = Instant::now();
    let processor = place.processor();
    // The first tenth loads the program's text: the memory of the others is that of their links.
    let first = count / 10;
    let mut times = timed_each(&mut place.world.targets[..first]).await;
    let resident = place.resident();
    times.extend(timed_each(&mut place.world.targets[first..]).await);
    let took = start.elapsed();
    let processor = place.processor() - processor;
    let name = format!("{count} targets join, {AT_A_TIME} at a time");
    figures.add_times(&name, times);
    figures.add(format!("{name}: all, ms"), milliseconds(took));
    figures.add(format!("{name}: processor ms for each"), milliseconds(processor) / count as f64);
    figures.add(
        format!("{name}: resident KiB for each"),
        (place.resident() - resident) / (count - first) as f64,
    );
    close(place).await;
}
