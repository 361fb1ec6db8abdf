// SPDX-License-Identifier: Apache-2.0

//! A network namespace with the objects of a proxy: two load balancers, a target and a VIP.

use std::{fs, thread};

use nix::sched::{CloneFlags, unshare};
use nsm::testing::witness::{
    Action, Rule, add_address, add_bridge, add_route, add_rule, add_veth, change_link, set_forward,
    set_neighbour, set_port,
};

const SYSCTLS: [(&str, &str); 7] = [
    ("net/ipv4/conf/all/forwarding", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
];

/// Runs on a thread in such a namespace.
pub(crate) fn within<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root, or `lab exec`");
        SYSCTLS.iter().for_each(|(key, value)| fs::write(format!("/proc/sys/{key}"), value).unwrap());
        objects();
        run()
    })
    .join()
    .unwrap()
}

fn objects() {
    add_bridge("bridge0", [2, 0, 0, 0, 0, 1]);
    silence("bridge0");
    change_link("bridge0", |bridge| bridge.up());
    add_address("bridge0", "172.16.0.1/24");
    for (last, alias) in [(2, "server-px-lb-1"), (3, "server-px-lb-2"), (4, "client-target-1")] {
        let name = format!("nsm-{last}");
        let far = format!("far-{last}");
        add_veth(&name, &far);
        silence(&name);
        silence(&far);
        change_link(&far, |far| far.up());
        change_link(&name, |link| link.alias(alias.to_owned()));
        set_port(&name, "bridge0");
        let mac = [2, 0, 0, 0, 0, last];
        set_forward(&name, mac);
        set_neighbour("bridge0", format!("172.16.0.{last}").parse().unwrap(), mac);
    }
    add_rule(&Rule::lookup(30_000, "20.0.0.1/32", 1).iif("bridge0").protocol(200));
    let stop = Rule::lookup(32_765, "0.0.0.0/0", 1).iif("bridge0").protocol(200);
    add_rule(&Rule { action: Action::Blackhole, from: None, ..stop });
    add_route(1, &[("172.16.0.2", Some("bridge0")), ("172.16.0.3", Some("bridge0"))]);
}

/// A link without IPv6 sends no frame of its own.
fn silence(link: &str) {
    fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1").unwrap();
}
