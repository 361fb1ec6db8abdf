// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::proxy::{
    commands::sample,
    state::{Sysctl, Verdict},
};

fn status(document: &Document) -> Report {
    answer(document, Style::PLAIN)
}

#[test]
fn a_proxy_that_is_well_has_a_screen_without_problems() {
    let Report { text, json, code } = status(&sample::well());
    assert_eq!((code, &json["state"]), (0, &"well".into()), "{text}");
    assert!(text.starts_with("px on node-1, conduit blue of trench red: well\n"), "{text}");
    for line in ["load balancers  2 of 2 carry packets", "targets         1", "kernel          as declared"] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.lines().count() <= 24 && !text.contains("next:"), "{text}");
}

#[test]
fn the_first_problem_of_each_fault_is_its_cause() {
    type Break = fn(&mut Document);
    let table: [(Break, &str, &str); 15] = [
        (|d| d.start.step = Some("waits on IPAM".into()), "the start waits on IPAM", "IPAM"),
        (|d| d.identity.as_mut().unwrap().expires_in_seconds = Some(0), "has expired", "SPIRE"),
        (|d| d.identity.as_mut().unwrap().id = None, "no SVID", "SPIRE"),
        (|d| d.services.ipam.as_mut().unwrap().up = false, "IPAM (tcp://ipam:7777) is down", "IPAM"),
        (
            |d| d.services.nsmgr.as_mut().unwrap().up = false,
            "nsmgr (unix:///var/lib/networkservicemesh/nsm.io.sock) is down",
            "nsmgr",
        ),
        (
            |d| d.kernel.as_mut().unwrap().failures.push("EPERM".into()),
            "the kernel refuses: EPERM",
            "proxy plan",
        ),
        (
            |d| d.kernel.as_mut().unwrap().reverted = vec!["add rule x".into(), "add rule y".into()],
            "taken back: add rule x and 1 more",
            "stop the other program",
        ),
        (
            |d| {
                let fault = "net.ipv4.conf.all.forwarding is 0, needed is 1: it stops".into();
                d.kernel.as_mut().unwrap().sysctls = vec![Sysctl { fault, stops: true }];
            },
            "net.ipv4.conf.all.forwarding is 0, needed is 1",
            "proxy check",
        ),
        (|d| d.mesh.as_mut().unwrap().load_balancers.clear(), "lists no load balancer", "load balancers"),
        (
            |d| d.mesh.as_mut().unwrap().load_balancers[0].reach = "silent".into(),
            "lb-1 does not answer",
            "proxy explain",
        ),
        (
            |d| d.mesh.as_mut().unwrap().load_balancers[0].state = "requesting".into(),
            "lb-1 has not answered",
            "proxy inspect events",
        ),
        (|d| d.mesh.as_mut().unwrap().load_balancers[0].links.clear(), "lb-1 has no link", "forwarder"),
        (
            |d| d.services.nsmgr.as_mut().unwrap().error = Some("refused".into()),
            "does not refresh the registration: refused",
            "nsmgr",
        ),
        (
            |d| d.mesh.as_mut().unwrap().load_balancers[0].links[0].state = "missing".into(),
            "the link nsm-1 of load balancer lb-1 is missing",
            "forwarder",
        ),
        (
            |d| d.targets[0].links[0].state = "down".into(),
            "the link nsm-9 of target target-1 is down",
            "target's pod",
        ),
    ];
    for (change, what, next) in table {
        let mut document = sample::well();
        change(&mut document);
        let Report { text, json, .. } = status(&document);
        let first = &json["problems"][0];
        assert!(first["problem"].as_str().unwrap().contains(what), "{what}: {text}");
        assert!(first["next"].as_str().unwrap().contains(next), "{next}: {text}");
        assert!(json["state"] == "degraded" && text.contains("\n1. "), "{text}");
    }
}

#[test]
fn an_error_that_is_over_is_no_problem() {
    let mut document = sample::well();
    let services = &mut document.services;
    for service in [&mut services.ipam, &mut services.nsp, &mut services.nsmgr, &mut services.registry] {
        service.as_mut().unwrap().last_error = Some("refused".into());
    }
    let Report { json, text, .. } = status(&document);
    assert_eq!(json["state"], "well", "{text}");
}

#[test]
fn a_reason_of_health_that_nothing_else_names_is_listed_once() {
    let mut document = sample::well();
    let why = "net.ipv4.conf.all.forwarding is 0, needed is 1".to_owned();
    let verdict = |name: &str, degraded: &[&String]| Verdict {
        name: name.into(),
        serving: name != "Egress",
        reason: String::new(),
        degraded: degraded.iter().map(|text| (*text).clone()).collect(),
    };
    document.health =
        vec![verdict("Readiness", &[&why]), verdict("NSPCli", &[&why]), verdict("NSMEndpoint", &[&why])];
    let Report { text, .. } = status(&document);
    assert_eq!(text.matches(&why).count(), 1, "{text}");
    assert!(text.contains("next: proxy check"), "{text}");
}

#[test]
fn a_degradation_of_a_load_balancer_that_is_named_already_is_left_out() {
    let mut document = sample::well();
    document.mesh.as_mut().unwrap().load_balancers[0].links[0].state = "missing".into();
    document.health[2].degraded.push("load balancer px-lb-1: link nsm-1 does not exist".into());
    document.health[2].degraded.push("load balancer px-lb-2: link nsm-2 does not exist".into());
    let Report { json, text, .. } = status(&document);
    assert_eq!(json["problems"].as_array().unwrap().len(), 2, "{text}");
}

#[test]
fn a_proxy_that_starts_is_not_ready_and_shows_its_step() {
    let Report { text, code, .. } = status(&sample::starting());
    assert_eq!(code, 1);
    assert!(text.contains(": not ready\n") && text.contains("start    "), "{text}");
}

#[test]
fn many_problems_still_fit_a_screen() {
    let mut document = sample::well();
    let balancers = &mut document.mesh.as_mut().unwrap().load_balancers;
    balancers.truncate(1);
    balancers[0].reach = "silent".into();
    let one = balancers[0].clone();
    balancers.resize(64, one);
    let Report { text, json, .. } = status(&document);
    assert!(text.lines().count() < 48 && text.contains("and 56 more"), "{text}");
    assert_eq!(json["problems"].as_array().unwrap().len(), 64);
}

#[test]
fn a_span_has_its_two_largest_units() {
    for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h 1m"), (90_000, "1d 1h")] {
        assert_eq!(span(seconds), text);
    }
}
