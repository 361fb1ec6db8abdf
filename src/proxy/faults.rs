// SPDX-License-Identifier: Apache-2.0
//! Reports faults of the kernel's state in health, where each is logged when it begins and when it
//! ends.

use tokio::sync::watch;

use super::health::{Health, Part};
use crate::kernel;

/// The source of these degradations.
const SOURCE: &str = "kernel";

/// Reports the state of the kernel until its reconciler ends.
pub async fn report(mut kernel: watch::Receiver<kernel::Status>, health: Health) {
    loop {
        let faults = kernel.borrow_and_update().faults();
        health.degrade(Part::Egress, SOURCE, faults.egress);
        health.degrade(Part::Endpoint, SOURCE, faults.targets);
        if kernel.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        api::Dual,
        app::log::testing::logged,
        kernel::{Ends, Kernel, Memory, PeerId, Settings},
        task::Tasks,
    };

    /// A target's port that the kernel refuses for ten minutes, and a load balancer whose link is
    /// missing as long.
    async fn ten_bad_minutes(health: &Health) {
        let tasks = Tasks::default();
        let linux = Memory::default();
        let kernel = Kernel::start(Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
        tasks.spawn(report(kernel.status(), health.clone()));
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
        linux.change(|world| world.most_ports = Some(0));
        linux.add_link("nsm-1", None);
        let _target = kernel.port(&PeerId::target("target-1"), "nsm-1".parse().unwrap(), Ends::default());
        let lb = PeerId::load_balancer("lb-1");
        let _lb = kernel.port(&lb, "nsm-2".parse().unwrap(), Ends::default());
        let _hop = kernel.next_hop(&lb, "172.16.1.2".parse().unwrap());
        kernel.settled().await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        let passes = kernel.status().borrow().passes;
        assert!(passes > 50, "{passes}");
        let degraded = |part: Part| health.subscribe().borrow().part(part).degraded;
        assert_eq!(degraded(Part::Egress), ["load balancer lb-1: link nsm-2 does not exist"]);
        assert_eq!(
            degraded(Part::Endpoint),
            ["make nsm-1 a port of the bridge: it has no room for more ports (1023 at most)"]
        );
        linux.change(|world| world.most_ports = None);
        linux.add_link("nsm-2", None);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(Part::ALL.iter().all(|part| degraded(*part).is_empty()));
        tasks.stop().await;
    }

    #[test]
    fn a_fault_is_logged_when_it_begins_and_when_it_ends_only() {
        let lines = logged(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(ten_bad_minutes(&Health::default()));
        });
        let with = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        // The next hop is left out at once; after ten seconds its link is reported instead.
        let begun = with("\"message\":\"degraded\"");
        let over = with("\"message\":\"no longer degraded\"");
        assert_eq!((begun, over, with("nsm-1")), (3, 3, 2), "{lines:#?}");
    }
}
