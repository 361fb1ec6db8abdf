// SPDX-License-Identifier: Apache-2.0

//! Run a test in a network namespace of its own, with `ip` as the second witness.

use std::{fs, future::Future, panic::resume_unwind, process::Command, thread, time::Duration};

use nix::sched::{CloneFlags, unshare};
use tokio::time::{Instant, sleep};

use crate::{
    api::InterfaceName,
    chain::Tasks,
    kernel::{Kernel, Netlink, Settings, Status},
};

/// Run a test on a thread in a fresh network namespace, which ends with it. What the test spawns is in the namespace too.
pub(in crate::kernel) fn in_netns<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            panic!(
                "this test needs a network namespace of its own ({error}): run it as root, or under `unshare -Urn`"
            );
        }
        ip("link set lo up");
        fs::write("/proc/sys/net/ipv4/conf/all/forwarding", "1")
            .expect("this test needs a writable /proc/sys/net");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(120), test()).await.expect("120 s") });
    };
    if let Err(panic) = thread::spawn(run).join() {
        resume_unwind(panic);
    }
}

/// Run `ip` with some arguments, and return what it prints.
pub(in crate::kernel) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("this test needs iproute2's `ip`");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Run `ip` for what it is to fail at, and return its complaint.
pub(super) fn ip_fails(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(!output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// The name of a link.
pub(super) fn name(name: &str) -> InterfaceName {
    name.parse().unwrap()
}

/// Settings of the tests.
pub(super) fn settings() -> Settings {
    Settings::of("trench", "conduit", "node")
}

/// A reconciler over the kernel of this namespace.
pub(super) async fn start(tasks: &Tasks) -> Kernel {
    start_with(settings(), tasks).await
}

/// A reconciler over the kernel of this namespace, with settings.
pub(super) async fn start_with(settings: Settings, tasks: &Tasks) -> Kernel {
    Kernel::start_on_thread(settings, Netlink::open, tasks).await.unwrap()
}

/// Wait until a question has the answer yes, and show the last state if it never has.
pub(super) async fn eventually<T: std::fmt::Debug>(look: impl Fn() -> T, fits: impl Fn(&T) -> bool) -> T {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = look();
        if fits(&seen) {
            return seen;
        }
        assert!(Instant::now() < give_up, "still {seen:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Wait until the status fits, and show the last one if it never does.
pub(super) async fn status(kernel: &Kernel, mut fits: impl FnMut(&Status) -> bool) -> Status {
    let mut status = kernel.status();
    let found = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| fits(status))).await;
    let found = found.map(|status| status.unwrap().clone());
    found.unwrap_or_else(|_| panic!("still {:?}", kernel.status().borrow().clone()))
}
