// SPDX-License-Identifier: Apache-2.0

//! A network namespace at the far end of links.

use std::{fs::File, os::fd::AsRawFd, sync::mpsc, thread};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

use crate::testing::witness::change_link;

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace with a thread in it that runs the functions of a test.
pub(in crate::kernel) struct Far {
    netns: File,
    work: Option<mpsc::Sender<Work>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Far {
    pub(in crate::kernel) fn new() -> Self {
        let (ready, started) = mpsc::channel();
        let (work, todo) = mpsc::channel::<Work>();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(gettid()).unwrap();
            todo.into_iter().for_each(|work| work());
        });
        let netns = format!("/proc/{}/task/{}/ns/net", std::process::id(), started.recv().unwrap());
        Self { netns: File::open(netns).unwrap(), work: Some(work), thread: Some(thread) }
    }

    /// Moves a link into the namespace.
    pub(in crate::kernel) fn take(&self, link: &str) {
        change_link(link, |link| link.setns_by_fd(self.netns.as_raw_fd()));
    }

    /// Runs a function in the namespace, and waits for it.
    pub(in crate::kernel) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let work = Box::new(move || drop(tell.send(work())));
        self.work.as_ref().unwrap().send(work).unwrap();
        told.recv().expect("what is done in the namespace panicked")
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        drop(self.work.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}
