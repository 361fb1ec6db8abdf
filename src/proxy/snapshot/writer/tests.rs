// SPDX-License-Identifier: Apache-2.0

use std::sync::{Mutex, PoisonError};

use super::*;
use crate::{
    ipam::{InMemory, Settings, Subnet, Tree},
    proxy::snapshot::File,
};

/// Keeps snapshots in memory, unless its disk is full.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    full: bool,
    attempts: usize,
    kept: Vec<Snapshot>,
}

impl Disk {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> Snapshot {
        self.state().kept.last().cloned().unwrap_or_default()
    }

    fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.attempts, state.kept.len())
    }
}

impl Store for Disk {
    fn store(&self, snapshot: &Snapshot) -> io::Result<()> {
        let mut state = self.state();
        state.attempts += 1;
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.kept.push(snapshot.clone());
        Ok(())
    }
}

struct World {
    disk: Disk,
    leases: Leases,
    vips: watch::Sender<Vips>,
    writer: Writer,
    health: Health,
    tasks: Tasks,
}

fn world() -> World {
    let tree = Tree::new("t");
    let tasks = Tasks::default();
    let disk = Disk::default();
    let health = Health::default();
    tree.add_conduit("c").unwrap();
    let subnet = Subnet { trench: "t".into(), conduit: "c".into(), node: "n".into() };
    let leases = Leases::start(InMemory::new(tree, subnet), Settings::default(), &tasks);
    let (vips, seen) = watch::channel(Vips::default());
    let sources = Sources { leases: leases.clone(), vips: seen };
    let writer = Writer::start(disk.clone(), sources, health.clone(), &tasks);
    World { disk, leases, vips, writer, health, tasks }
}

impl World {
    async fn acquire(&self, child: &str) -> ipam::Lease {
        self.leases.acquire(child, Instant::now() + REFRESH).await.unwrap()
    }
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.leases.iter().map(|record| &*record.child).collect()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_written_at_once_and_many_together() {
    let world = world();
    sleep(2 * REFRESH).await;
    assert_eq!(world.disk.counts().0, 0, "nothing is known yet");
    let _bridge = world.acquire("bridge").await;
    sleep(PAUSE / 10).await;
    assert_eq!(names(&world.disk.last()), ["bridge"]);
    let mut held = Vec::new();
    for n in 0..200 {
        held.push(world.acquire(&format!("target-{n}")).await);
        sleep(PAUSE / 40).await;
    }
    world.vips.send_modify(|vips| vips.list = Some(["20.0.0.1/32".parse().unwrap()].into()));
    sleep(2 * PAUSE).await;
    let (last, (writes, _)) = (world.disk.last(), world.disk.counts());
    assert_eq!((last.leases.len(), last.vips.unwrap().len()), (201, 1));
    assert!((2..=9).contains(&writes), "{writes} writes in seven seconds");
    world.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_without_a_change_is_written_every_minute() {
    let world = world();
    let _bridge = world.acquire("bridge").await;
    sleep(10 * REFRESH + PAUSE).await;
    let writes = world.disk.counts().0;
    assert!((10..=12).contains(&writes), "{writes}");
    world.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_the_snapshot_and_nothing_else() {
    let world = world();
    let _bridge = world.acquire("bridge").await;
    sleep(PAUSE / 10).await;
    world.disk.state().full = true;
    let _target = world.acquire("target").await;
    sleep(10 * REFRESH).await;
    assert_eq!(names(&world.disk.last()), ["bridge"], "the last one stays");
    let attempts = world.disk.counts().0;
    assert!((9..=13).contains(&attempts), "{attempts}");
    let degraded = || world.health.of(Part::Ipam.name()).unwrap().degraded.join(", ");
    assert!(degraded().contains("the snapshot is not written"), "{}", degraded());
    world.disk.state().full = false;
    sleep(REFRESH + PAUSE).await;
    assert_eq!((names(&world.disk.last()), degraded()), (vec!["bridge", "target"], String::new()));
    world.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_snapshot_has_the_leases_at_the_end() {
    let world = world();
    let _kept = world.acquire("bridge").await;
    let given_back = world.acquire("lb").await;
    sleep(2 * PAUSE).await;
    assert_eq!(names(&world.disk.last()), ["bridge", "lb"]);
    drop(given_back);
    let left = world.leases.flush(Instant::now() + PAUSE).await.unwrap();
    world.writer.finish(left, Instant::now() + PAUSE).await;
    assert_eq!(names(&world.disk.last()), ["bridge"]);
    world.tasks.stop().await;
}

#[test]
fn both_stores_keep_the_one_before_when_they_fail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let disk = Disk::default();
    let of = Subnet { trench: "t".into(), conduit: "c".into(), node: "n".into() };
    let file = File::new(&path, of);
    let of_vip = |vip: &str| Snapshot { vips: Some([vip.parse().unwrap()].into()), ..Snapshot::default() };
    let one = of_vip("20.0.0.1/32");
    let two = of_vip("20.0.0.2/32");
    assert!(disk.store(&one).is_ok() && file.store(&one).is_ok());
    disk.state().full = true;
    // Takes the place of the file that is written first.
    std::fs::create_dir_all(folder.path().join("snapshot.new/full")).unwrap();
    assert!(disk.store(&two).is_err() && file.store(&two).is_err());
    assert_eq!((disk.last(), file.load()), (one.clone(), Some(one)));
}
