// SPDX-License-Identifier: Apache-2.0

//! Tests a kernel whose events are lost without notice.

use super::over::Over;
use crate::{
    api::Dual,
    kernel::{Ends, Kernel, Memory, Observed, Ours, PeerId, Refusal, Settings},
    task::Tasks,
};

/// A kernel in memory whose refresh shows no change.
struct Deaf(Memory);

impl Over for Deaf {
    type Inner = Memory;

    fn inner(&mut self) -> &mut Memory {
        &mut self.0
    }

    async fn refresh(&mut self, _ours: &Ours, observed: Observed) -> Result<Observed, Refusal> {
        Ok(observed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_event_is_lost_has_not_failed() {
    let tasks = Tasks::default();
    let linux = Memory::default();
    linux.add_link("nsm-1", None);
    let kernel = Kernel::start(Settings::of("t", "c", "n"), Deaf(linux.clone()), &tasks);
    kernel.settled().await;
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    let _port = kernel.port(&PeerId::target("target-1"), "nsm-1".parse().unwrap(), Ends::default());
    kernel.settled().await;
    let status = kernel.status().borrow().clone();
    assert!(status.ports.contains(&"nsm-1".parse().unwrap()), "{status:?}");
    assert_eq!((status.degraded, status.failures), (vec![], vec![]));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_by_others_without_an_event_is_found_at_the_resync() {
    let tasks = Tasks::default();
    let linux = Memory::default();
    let settings = Settings::of("t", "c", "n");
    let resync = settings.resync;
    let kernel = Kernel::start(settings, Deaf(linux.clone()), &tasks);
    kernel.set_vips(&["20.0.0.1/32".parse().unwrap()]);
    kernel.settled().await;
    let rules = || linux.observed(&Ours::default()).rules.len();
    let whole = rules();
    linux.change(|world| world.rules.clear());
    tokio::time::sleep(resync / 2).await;
    assert_eq!(rules(), 0, "nothing has shown the loss");
    tokio::time::sleep(resync).await;
    assert_eq!(rules(), whole);
    tasks.stop().await;
}
