// SPDX-License-Identifier: Apache-2.0

//! Tests which events lead to a read of the kernel.

use super::*;
use crate::{
    kernel::tests::netns::in_netns,
    testing::witness::{Rule, add_address, add_rule},
};

#[test]
fn l08_an_overflowed_socket_causes_a_full_read_and_continues() {
    in_netns(|| async {
        let mut watch = Watch::with_buffer(4096).unwrap();
        add_address("lo", "10.0.0.1/32");
        assert!(!reports(&mut watch).await, "an address of another link is no concern");
        for last in 2..60 {
            add_address("lo", &format!("10.0.0.{last}/32"));
        }
        assert!(reports(&mut watch).await, "58 such events overflow the buffer");
        assert!(!watch.broken && !reports(&mut watch).await);
        add_rule(&Rule::lookup(0, "20.0.0.1/32", 1));
        assert!(reports(&mut watch).await);
    });
}

#[test]
fn what_a_dump_shows_is_not_reported_again() {
    in_netns(|| async {
        let ours = Ours::default();
        let mut watch = Watch::open().unwrap();
        let before = watch.rule_changes(&ours, None);
        add_rule(&Rule::lookup(5, "20.0.0.1/32", 1));
        assert_eq!(watch.rule_changes(&ours, None), before + 1);
        assert!(reports(&mut watch).await, "counting it is not reporting it");
        add_rule(&Rule::lookup(6, "20.0.0.2/32", 1));
        drop(watch.changes(&ours, None));
        assert!(!reports(&mut watch).await, "it came before the dump");
        add_rule(&Rule::lookup(7, "20.0.0.3/32", 1));
        assert!(reports(&mut watch).await, "it came after");
    });
}

async fn reports(watch: &mut Watch) -> bool {
    let ours = Ours::default();
    let changed = watch.changed(&ours, Some(99));
    tokio::time::timeout(Duration::from_millis(500), changed).await.is_ok()
}
