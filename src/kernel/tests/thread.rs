// SPDX-License-Identifier: Apache-2.0

//! Tests the reconciler on a separate thread, over a kernel that answers late.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::over::Over;
use crate::{
    api::Family,
    kernel::{
        Backend, Kernel, Memory, Observed, Op, Ours, Refusal, Settings, WrongSysctl,
        announce::Announcements,
        liveness::{self, Neighbours},
    },
    task::Tasks,
};

/// A kernel that reports each change, and makes it when the test allows it.
struct Slow {
    memory: Memory,
    asked: Sender<()>,
    let_go: mpsc::Receiver<()>,
    ended: Arc<AtomicBool>,
}

impl Over for Slow {
    type Inner = Memory;

    fn inner(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Blocks the thread, as a system call does.
    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        let _told = self.asked.try_send(());
        let _gone = self.let_go.recv();
        self.memory.apply(ours, op).await
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
    }
}

/// A kernel whose dump panics.
struct Broken;

impl Backend for Broken {
    async fn dump(&mut self, _: &Ours) -> Result<Observed, Refusal> {
        panic!("as the test wants")
    }

    async fn apply(&mut self, _: &Ours, _: &Op) -> Result<(), Refusal> {
        Ok(())
    }

    fn wrong_sysctls(&mut self, _: &Ours, _: &[Family]) -> Vec<WrongSysctl> {
        Vec::new()
    }

    fn neighbours(&mut self, _: Option<liveness::Settings>) -> io::Result<Box<dyn Neighbours>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn announcements(&mut self) -> io::Result<Box<dyn Announcements>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn changed(&mut self, _: &Ours) {}

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_of_the_reconciler_is_known_with_its_message() {
    let tasks = Tasks::default();
    let settings = Settings::of("trench", "conduit", "node");
    let on_thread = Kernel::start_on_thread(settings.clone(), || Ok(Broken), &tasks).await.unwrap();
    for kernel in [on_thread, Kernel::start(settings, Broken, &tasks)] {
        assert_eq!(kernel.ended().await, "it panicked: as the test wants");
        kernel.settled().await; // does not wait for a pass that will never come
        assert!(kernel.status().changed().await.is_err());
    }
    tasks.stop().await;
}

/// A slow kernel, with the channels by which a test controls it.
struct Rig {
    tasks: Tasks,
    memory: Memory,
    asked: Receiver<()>,
    let_go: mpsc::Sender<()>,
    ended: Arc<AtomicBool>,
}

/// Starts it, and waits until it is in the middle of its first change.
async fn writing() -> Rig {
    let tasks = Tasks::default();
    let memory = Memory::default();
    let ended = Arc::new(AtomicBool::new(false));
    let ((asked, mut asking), (let_go, goes)) = (channel(1), mpsc::channel());
    let backend = Slow { memory: memory.clone(), asked, let_go: goes, ended: Arc::clone(&ended) };
    let settings = Settings::of("trench", "conduit", "node");
    let _kernel = Kernel::start_on_thread(settings, || Ok(backend), &tasks).await.unwrap();
    asking.recv().await.unwrap();
    Rig { tasks, memory, asked: asking, let_go, ended }
}

#[tokio::test]
async fn a_stop_waits_for_the_change_that_is_being_made() {
    let Rig { tasks, memory, asked: _asked, let_go, ended } = writing().await;
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(let_go);
    });
    tasks.stop().await;
    assert!(ended.load(SeqCst), "the thread is still at work");
    let made = memory.made().len();
    late.join().unwrap();
    assert_eq!(memory.made().len(), made, "nothing is written after a stop");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let Rig { tasks, let_go, ended, .. } = writing().await;
    tokio::time::pause();
    tasks.stop().await;
    assert!(!ended.load(SeqCst));
    drop(let_go);
}
