// SPDX-License-Identifier: Apache-2.0

//! The reconciler on a thread of its own, over a kernel whose answers take their time.

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

use crate::{
    api::Family,
    chain::Tasks,
    kernel::{
        Backend, Kernel, Memory, Observed, Op, Ours, Refusal, Settings, WrongSysctl,
        liveness::{self, Neighbours},
    },
};

/// A kernel that reports each change, and makes it when the test lets it.
struct Slow {
    memory: Memory,
    asked: Sender<()>,
    let_go: mpsc::Receiver<()>,
    ended: Arc<AtomicBool>,
}

impl Backend for Slow {
    async fn dump(&mut self, ours: &Ours) -> Result<Observed, Refusal> {
        self.memory.dump(ours).await
    }

    /// Blocks the thread, as a system call does.
    async fn apply(&mut self, ours: &Ours, op: &Op) -> Result<(), Refusal> {
        let _told = self.asked.try_send(());
        let _gone = self.let_go.recv();
        self.memory.apply(ours, op).await
    }

    fn wrong_sysctls(&mut self, ours: &Ours, families: &[Family]) -> Vec<WrongSysctl> {
        self.memory.wrong_sysctls(ours, families)
    }

    fn neighbours(&mut self, settings: liveness::Settings) -> io::Result<Box<dyn Neighbours>> {
        self.memory.neighbours(settings)
    }

    async fn changed(&mut self, ours: &Ours) {
        self.memory.changed(ours).await;
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
    }
}

/// What a test holds of a slow kernel.
struct Rig {
    tasks: Tasks,
    memory: Memory,
    asked: Receiver<()>,
    let_go: mpsc::Sender<()>,
    ended: Arc<AtomicBool>,
}

/// Started, and in the middle of its first change.
async fn writing() -> Rig {
    let (tasks, memory, ended) = (Tasks::default(), Memory::default(), Arc::new(AtomicBool::new(false)));
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
