// SPDX-License-Identifier: Apache-2.0

//! Runs a test in a separate network namespace.

use std::{fs, future::Future, net::IpAddr, panic::resume_unwind, thread, time::Duration};

use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use super::checked::Checked;
use crate::testing::witness::{NextHop, Way, change_link, route_get};
use crate::{
    api::InterfaceName,
    kernel::{Kernel, Settings, Status},
    task::Tasks,
};

/// The sysctls that the init container sets.
const SYSCTLS: [(&str, &str); 7] = [
    ("net.ipv4.conf.all.forwarding", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.fib_multipath_hash_policy", "1"),
    ("net.ipv6.fib_multipath_hash_policy", "1"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv6.conf.all.accept_dad", "0"),
];

/// Sets a sysctl of this network namespace.
pub(super) fn set_sysctl(key: &str, value: &str) {
    fs::write(format!("/proc/sys/{}", key.replace('.', "/")), value)
        .unwrap_or_else(|error| panic!("this test needs a writable /proc/sys/net ({key}: {error})"));
}

/// Runs a test on a thread in a new network namespace, which ends with it. Tasks that the test
/// spawns are in the namespace too.
pub(crate) fn in_netns<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            panic!(
                "this test needs a network namespace of its own ({error}): run it as root, or under `lab exec`"
            );
        }
        change_link("lo", |lo| lo.up());
        SYSCTLS.iter().for_each(|(key, value)| set_sysctl(key, value));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(120), test()).await.expect("120 s") });
    };
    if let Err(panic) = thread::spawn(run).join() {
        resume_unwind(panic);
    }
}

/// The route of a packet to a remote address, with this source, that enters by this link.
pub(super) fn egress(source: &str, input: &str) -> Result<Way, Errno> {
    let source: IpAddr = source.parse().unwrap();
    let to = if source.is_ipv6() { "2001:db8::1" } else { "198.51.100.1" };
    route_get(to.parse().unwrap(), Some((source, input)))
}

/// Table 1 leads such a packet to one of these neighbours of the bridge.
pub(super) fn routed(source: &str, input: &str, hops: &[&str]) {
    let way = egress(source, input);
    let fits = hops.iter().any(|via| way == Ok(Way { hop: NextHop::new(via, "bridge0"), table: 1 }));
    assert!(fits, "{source} {input}: {way:?}");
}

/// Such a packet is dropped by a blackhole.
pub(super) fn dropped(source: &str, input: &str) {
    assert_eq!(egress(source, input), Err(Errno::INVAL), "{source} {input}");
}

/// The name of a link.
pub(super) fn name(name: &str) -> InterfaceName {
    name.parse().unwrap()
}

/// Settings of the tests.
pub(super) fn settings() -> Settings {
    Settings::of("trench", "conduit", "node")
}

/// Starts a reconciler over the kernel of this namespace.
pub(super) async fn start(tasks: &Tasks) -> Kernel {
    start_with(settings(), tasks).await
}

/// Starts a reconciler over the kernel of this namespace, with settings.
pub(super) async fn start_with(settings: Settings, tasks: &Tasks) -> Kernel {
    Kernel::start_on_thread(settings, Checked::open, tasks).await.unwrap()
}

/// Waits until a value fits, and fails with the last value if it never does.
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

/// Waits until the status fits, and fails with the last one if it never does.
pub(super) async fn status(kernel: &Kernel, mut fits: impl FnMut(&Status) -> bool) -> Status {
    let mut status = kernel.status();
    let found = tokio::time::timeout(Duration::from_secs(20), status.wait_for(|status| fits(status))).await;
    let found = found.map(|status| status.unwrap().clone());
    found.unwrap_or_else(|_| panic!("still {:?}", kernel.status().borrow().clone()))
}
