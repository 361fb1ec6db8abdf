// SPDX-License-Identifier: Apache-2.0

//! Tests the counters of ports against the dump of the network namespace.

use serde_json::json;

use super::{
    balancer::make_link,
    netns::{in_netns, name},
};
use crate::{
    kernel::{Counters, Port, dump},
    testing::witness::{add_address, add_bridge, change_link, set_port},
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn ports(counters: &mut Counters) -> Vec<Port> {
    counters.ports(&name("bridge0")).unwrap()
}

#[test]
fn the_counters_of_ports_are_those_of_the_whole_dump() {
    in_netns(|| async {
        let mut counters = Counters::open().unwrap();
        assert_eq!(ports(&mut counters), [], "no bridge");
        add_bridge("bridge0", MAC);
        change_link("bridge0", |bridge| bridge.up());
        assert_eq!(ports(&mut counters), [], "no port");
        let links: Vec<String> = (0..40).map(|number| format!("port{number}")).collect();
        for link in &links {
            make_link(link); // its far end is no port
            set_port(link, "bridge0");
        }
        add_address("port7", "172.16.1.7/24");
        add_address("port7", "fd00::7/64");
        // Neighbour discovery on the new links is over when two dumps agree.
        let (found, dumped) = loop {
            let before = ports(&mut counters);
            let dumped = dump().await.unwrap().interfaces;
            if before == ports(&mut counters) {
                break (before, json!(dumped));
            }
        };
        let names: Vec<String> = found.iter().map(|port| port.name.to_string()).collect();
        assert_eq!(names, links);
        for port in &found {
            let whole =
                dumped.as_array().unwrap().iter().find(|it| it["name"] == json!(port.name.to_string()));
            let whole = whole.unwrap();
            assert_eq!(json!(port.statistics), whole["statistics"], "{}", port.name);
            assert_eq!(json!(port.mac.unwrap().to_string()), whole["mac"]);
            assert!(port.statistics.tx_packets > 0, "neighbour discovery: {port:?}");
        }
        let addresses: Vec<String> = found[7].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["172.16.1.7/24", "fd00::7/64"]);
        assert!(found[8].addresses.is_empty(), "link-local addresses are left out");
    });
}

#[test]
fn a_port_has_a_bounded_number_of_addresses() {
    in_netns(|| async {
        add_bridge("bridge0", MAC);
        make_link("port");
        set_port("port", "bridge0");
        (1..=40).for_each(|host| add_address("port", &format!("172.16.1.{host}/24")));
        let found = ports(&mut Counters::open().unwrap());
        assert_eq!(found[0].addresses.len(), 16);
    });
}
