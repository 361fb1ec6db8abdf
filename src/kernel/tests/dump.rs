// SPDX-License-Identifier: Apache-2.0

//! Tests the dump of a network namespace with a proxy's bridge, routes and rules.

use serde_json::{Value, json};

use super::{
    balancer,
    netns::{in_netns, settings, start, status},
};
use crate::testing::witness::learn_neighbour;
use crate::{
    api::Dual,
    kernel::{Dump, dump},
    task::Tasks,
};

/// Objects of a list for which a key has a value.
fn with<'a>(list: &'a Value, key: &str, value: impl Into<Value>) -> Vec<&'a Value> {
    let value = value.into();
    list.as_array().unwrap().iter().filter(|object| object[key] == value).collect()
}

#[test]
fn the_dump_has_the_routes_and_rules_that_the_proxy_manages() {
    in_netns(|| async {
        let tasks = Tasks::default();
        let kernel = start(&tasks).await;
        let mac = settings().mac.to_string();
        kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() });
        kernel.set_vips(&["20.0.0.1/32", "2000::1/128"].map(|vip| vip.parse().unwrap()));
        let _one = balancer::in_netns(&kernel, "lb-1", &["172.16.1.2", "fd00::2"]);
        let _two = balancer::in_netns(&kernel, "lb-2", &["172.16.1.4"]);
        status(&kernel, |status| status.has_next_hop("172.16.1.4".parse().unwrap()) && status.vips).await;
        learn_neighbour("bridge0", "172.16.1.4".parse().unwrap(), [2, 0, 0, 0, 0, 4]);

        let Dump { interfaces, rules, routes, neighbours } = dump().await.unwrap();
        let json = [json!(interfaces), json!(rules), json!(routes), json!(neighbours)];
        let [interfaces, rules, routes, neighbours] = &json;
        let bridge = with(interfaces, "name", "bridge0")[0];
        assert_eq!((&bridge["mac"], &bridge["up"]), (&mac.into(), &true.into()));
        assert!(bridge["ips"].as_array().unwrap().contains(&"172.16.1.1/24".into()), "{bridge}");
        assert_eq!(with(interfaces, "master-index", bridge["index"].clone()).len(), 2);
        assert_eq!(with(rules, "source", "20.0.0.1/32").len(), 1, "{}", rules);
        let routes = with(routes, "table", 1);
        let hops: Vec<_> = routes.iter().flat_map(|route| route["nexthops"].as_array().unwrap()).collect();
        assert!(hops.contains(&&"172.16.1.2".into()) && hops.contains(&&"172.16.1.4".into()), "{routes:?}");
        let out = routes.iter().find(|route| route["nexthops"] != Value::Array(vec![])).unwrap();
        assert_eq!((&out["destination"], &out["interface-index"]), (&"default".into(), &bridge["index"]));
        let neighbour = with(neighbours, "ip", "172.16.1.4")[0];
        assert_eq!(
            (&neighbour["mac"], &neighbour["state"]),
            (&"02:00:00:00:00:04".into(), &"Reachable".into())
        );
        drop(kernel);
        tasks.stop().await;
    });
}
