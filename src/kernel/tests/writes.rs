// SPDX-License-Identifier: Apache-2.0

//! Tests how much is written: nothing in the desired state, and only the affected rules when one
//! VIP changes.

use std::time::Duration;

use ipnet::IpNet;
use rtnetlink::packet_route::RouteNetlinkMessage::{DelRule, NewRule};

use super::{
    balancer::{self, Balancer},
    netns::{dropped, in_netns, routed, settings, start_with, status},
};
use crate::testing::witness::{Announcements, Rule, add_rule};
use crate::{
    api::Dual,
    kernel::{Kernel, Settings, Status},
    task::Tasks,
};

/// Addresses that are not adjacent, so that none is merged with another.
fn thousand() -> Vec<IpNet> {
    (0..1000u32).map(|i| format!("20.{}.{}.{}/32", i % 7, i / 100, i % 100 * 2).parse().unwrap()).collect()
}

async fn with_thousand_vips(tasks: &Tasks) -> (Kernel, Balancer) {
    // Link-local addresses, which Linux adds a while after a link is up, are not writes of ours.
    std::fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1").unwrap();
    let often = Settings { resync: Duration::from_millis(20), ..settings() };
    let kernel = start_with(often, tasks).await;
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    kernel.set_vips(&thousand());
    let balancer = balancer::in_netns(&kernel, "lb-1", &["172.16.1.2"]);
    kernel.settled().await;
    let whole = |status: &Status| status.vips && status.degraded.is_empty();
    status(&kernel, |status| whole(status) && status.next_hops.v4.is_some()).await;
    (kernel, balancer)
}

#[test]
fn a_clean_reconcile_of_a_thousand_vips_writes_nothing() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hop) = with_thousand_vips(&tasks).await;
        let witness = Announcements::open();
        witness.quiet().await;
        let before = kernel.status().borrow().clone();
        let after = status(&kernel, |status| status.passes >= before.passes + 5).await;
        assert_eq!(witness.heard(), [], "five passes");
        assert_eq!(after.writes, before.writes);
        add_rule(&Rule::lookup(5, "203.0.113.1/32", 7));
        assert!(matches!(witness.heard()[..], [NewRule(_)]), "the witness hears");
        tasks.stop().await;
    });
}

#[test]
fn e14_removing_one_of_a_thousand_vips_changes_only_its_rules() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, _hop) = with_thousand_vips(&tasks).await;
        let mut vips = thousand();
        let witness = Announcements::open();
        witness.quiet().await;
        let gone = vips.remove(500);
        kernel.set_vips(&vips);
        kernel.settled().await;
        let heard = witness.heard();
        assert!((1..=20).contains(&heard.len()), "{} changes", heard.len());
        assert!(heard.iter().all(|event| matches!(event, NewRule(_) | DelRule(_))), "{heard:?}");
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        for stays in [vips[0], vips[998]] {
            routed(&stays.addr().to_string(), "bridge0", &["172.16.1.2"]);
        }
        dropped(&gone.addr().to_string(), "bridge0");
        tasks.stop().await;
    });
}
