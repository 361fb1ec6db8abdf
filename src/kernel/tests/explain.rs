// SPDX-License-Identifier: Apache-2.0

//! Tests that the walks of a packet follow a real kernel.

use std::{net::IpAddr, time::Duration};

use super::{linux::working, netns::in_netns};
use crate::testing::witness::{add_address, change_link, delete_rule, link, rules, set_neighbour};
use crate::{
    api::Dual,
    kernel::{
        Mac, Ours,
        explain::{Explanation, Outcome, Role, View, explain},
        view,
    },
    task::Tasks,
};

const HOPS: [(&str, Dual<&str>); 2] = [
    ("lb-1", Dual { v4: Some("172.16.1.2"), v6: Some("fd00::2") }),
    ("lb-2", Dual { v4: Some("172.16.1.4"), v6: Some("fd00::4") }),
];

fn walks(view: &View, address: &str) -> Explanation {
    explain(view, &Ours::default(), address.parse().unwrap())
}

/// Waits until the bridge has learnt the far end of each link.
async fn learnt() -> View {
    for at in 0..200_u8 {
        let view = view(&Ours::default()).await.unwrap();
        if HOPS.iter().all(|(name, _)| view.fdb.contains_key(&Mac(link(&format!("{name}p")).mac))) {
            return view;
        }
        for (name, _) in HOPS {
            // A new address has a new multicast group, which the far end reports.
            add_address(&format!("{name}p"), &format!("fd00:9::{:x}/128", at + 1));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the bridge learns nothing: {:?}", view(&Ours::default()).await);
}

#[test]
fn a_vip_is_explained_in_a_namespace_until_a_part_is_taken() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let (kernel, balancers) = working(&tasks).await;
        tasks.stop().await; // what is in the kernel stays
        for (name, addresses) in HOPS {
            let far = link(&format!("{name}p")).mac;
            for (_, address) in addresses.iter() {
                set_neighbour("bridge0", address.parse::<IpAddr>().unwrap(), far);
            }
        }
        let view_now = learnt().await;
        for vip in ["20.0.0.1", "2000::1"] {
            let explanation = walks(&view_now, vip);
            assert_eq!((explanation.role, explanation.walks.len()), (Role::Vip, 2));
            let [from, to] = &*explanation.walks else { panic!("{explanation:#?}") };
            assert_eq!((&from.outcome, from.branches.len()), (&Outcome::Passes, 2), "{from:#?}");
            let ports: Vec<_> =
                from.branches.iter().map(|branch| &*branch.steps.last().unwrap().object).collect();
            assert_eq!(ports, ["lb-1", "lb-2"], "{from:#?}");
            assert!(from.branches[0].steps.last().unwrap().counters.is_some());
            assert_eq!(to.cause(), Some("no target of this node is connected"));
        }
        assert_eq!(walks(&view_now, "172.16.1.2").walks[0].outcome, Outcome::Passes);

        for rule in rules().into_iter().filter(|rule| rule.from == "20.0.0.1/32".parse().ok()) {
            delete_rule(&rule);
        }
        let explanation = walks(&view(&Ours::default()).await.unwrap(), "20.0.0.1");
        assert_eq!(explanation.walks[0].cause(), Some("20.0.0.1 is not a VIP: no rule leads to table 1"));
        change_link("bridge0", |link| link.down());
        let explanation = walks(&view(&Ours::default()).await.unwrap(), "172.16.1.2");
        assert_eq!(explanation.walks[0].cause(), Some("bridge0 is down: ip link set bridge0 up"));
        drop((kernel, balancers));
    });
}
