// SPDX-License-Identifier: Apache-2.0

use super::*;
use crate::{
    api::pb::connectioncontext::{IpContext, Route},
    chain::{Chain, Close, begin::BeginLayer, laws, metadata::MetadataLayer},
    task::Tasks,
};

fn element(groups: &str) -> PointToPoint {
    PointToPoint::new(groups.parse().unwrap())
}

fn chain(element: &PointToPoint, tasks: &Tasks) -> Next {
    let chain =
        Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer).with(element.clone());
    chain.build().unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}

fn routes(prefixes: &[&str]) -> Vec<Route> {
    prefixes.iter().map(|prefix| Route { prefix: prefix.to_string(), ..Route::default() }).collect()
}

fn connection(id: &str, ip: IpContext) -> Box<Connection> {
    let mut connection = Connection::named(id);
    *connection.ip_context_mut() = ip;
    connection
}

/// The addresses of a Request, as `clients | endpoints`, or its error.
async fn ask(chain: &Next, id: &str, ip: IpContext) -> String {
    match chain.request(Request::new(connection(id, ip))).await {
        Ok(answer) => {
            let ip = answer.ip_context().unwrap();
            format!("{} | {}", ip.src_ip_addrs.join(" "), ip.dst_ip_addrs.join(" "))
        }
        Err(error) => error.to_string(),
    }
}

fn with(src: &[&str], dst: &[&str], excluded: &[&str]) -> IpContext {
    let (src_ip_addrs, dst_ip_addrs) = (texts(src), texts(dst));
    IpContext { src_ip_addrs, dst_ip_addrs, excluded_prefixes: texts(excluded), ..IpContext::default() }
}

#[tokio::test]
async fn the_first_request_is_answered_by_the_rules() {
    let none = || with(&[], &[], &[]);
    // rule, groups, addresses and exclusions of the Request, answer
    let table = [
        ("1 IPv4", "172.16.1.0/24", none(), "172.16.1.1/32 | 172.16.1.0/32"),
        ("1 IPv6", "fd00::/64", none(), "fd00::1/128 | fd00::/128"),
        ("1 a pair", "10.0.0.6/31", none(), "10.0.0.7/32 | 10.0.0.6/32"),
        ("1 groups", "10.0.0.0/8,fd00::/64", none(), "10.0.0.1/32 fd00::1/128 | 10.0.0.0/32 fd00::/128"),
        ("1 the second prefix", "[10.0.0.0/32,11.0.0.0/8]", none(), "11.0.0.1/32 | 11.0.0.0/32"),
        (
            "1 overlapping groups",
            "10.0.0.0/30,10.0.0.0/30",
            none(),
            "10.0.0.1/32 10.0.0.3/32 | 10.0.0.0/32 10.0.0.2/32",
        ),
        (
            "3 excluded",
            "10.0.0.0/8",
            with(&[], &[], &["10.0.0.0/31", "10.0.0.3/32"]),
            "10.0.0.4/32 | 10.0.0.2/32",
        ),
        ("3 a text", "10.0.0.0/8", with(&[], &[], &["banana"]), "10.0.0.1/32 | 10.0.0.0/32"),
        (
            "4 recovered",
            "10.0.0.0/8",
            with(&["10.0.0.9/32"], &["10.0.0.8/32"], &[]),
            "10.0.0.9/32 | 10.0.0.8/32",
        ),
        ("4 one end", "10.0.0.0/8", with(&["10.0.0.9/32"], &[], &[]), "10.0.0.1/32 | 10.0.0.0/32"),
        (
            "4 of two prefixes",
            "[10.0.0.0/8,11.0.0.0/8]",
            with(&["10.0.0.9/32"], &["11.0.0.8/32"], &[]),
            "10.0.0.1/32 | 10.0.0.0/32",
        ),
        (
            "4 the same address",
            "10.0.0.0/8",
            with(&["10.0.0.9/32"], &["10.0.0.9/32"], &[]),
            "10.0.0.1/32 | 10.0.0.0/32",
        ),
        (
            "4 excluded",
            "10.0.0.0/8",
            with(&["10.0.0.9/32"], &["10.0.0.8/32"], &["10.0.0.8/30"]),
            "10.0.0.1/32 | 10.0.0.0/32",
        ),
        (
            "4 for each group",
            "10.0.0.0/8,11.0.0.0/8",
            with(&["11.0.0.9/32"], &["11.0.0.8/32"], &[]),
            "11.0.0.9/32 10.0.0.1/32 | 11.0.0.8/32 10.0.0.0/32",
        ),
        (
            "6 another length",
            "10.0.0.0/8",
            with(&["10.0.0.9/8"], &["10.0.0.8"], &[]),
            "10.0.0.9/32 | 10.0.0.8/32",
        ),
        (
            "7 elsewhere",
            "10.0.0.0/8",
            with(&["20.0.0.1/32"], &["x"], &[]),
            "20.0.0.1/32 10.0.0.1/32 | x 10.0.0.0/32",
        ),
    ];
    for (rule, groups, ip, expected) in table {
        let tasks = Tasks::default();
        assert_eq!(ask(&chain(&element(groups), &tasks), "a", ip).await, expected, "{rule}");
        tasks.stop().await;
    }
}

#[tokio::test]
async fn host_routes_lead_to_the_other_end() {
    let request = || IpContext {
        src_ip_addrs: texts(&["20.0.0.1/32"]),
        src_routes: routes(&["10.0.0.9/32", "10.0.0.0/16", "0.0.0.0/0"]),
        dst_routes: routes(&["10.0.0.8/32", "20.0.0.1/32"]),
        ..IpContext::default()
    };
    let table = [
        (
            false,
            vec!["20.0.0.1/32", "10.0.0.1/32"],
            vec!["10.0.0.0/16", "0.0.0.0/0", "10.0.0.0/32"],
            vec!["20.0.0.1/32", "10.0.0.1/32"],
        ),
        (true, vec!["10.0.0.1/32"], vec!["10.0.0.0/32"], vec!["10.0.0.1/32"]),
    ];
    for (strict, src, src_routes, dst_routes) in table {
        let tasks = Tasks::default();
        let element = if strict { element("10.0.0.0/8").strict() } else { element("10.0.0.0/8") };
        let chain = chain(&element, &tasks);
        let answer = chain.request(Request::new(connection("a", request()))).await.unwrap();
        let again = chain.request(Request::new(answer.clone())).await.unwrap();
        assert_eq!(again.context, answer.context, "a refresh changes nothing");
        let ip = answer.ip_context().unwrap();
        assert_eq!(ip.src_ip_addrs, src, "strict: {strict}");
        assert_eq!(ip.src_routes, routes(&src_routes), "strict: {strict}");
        assert_eq!(ip.dst_routes, routes(&dst_routes), "strict: {strict}");
        tasks.stop().await;
    }
}

#[tokio::test]
async fn a_pair_is_held_until_close_or_exclusion() {
    let tasks = Tasks::default();
    let element = element("10.0.0.0/29");
    let chain = chain(&element, &tasks);
    let none = || with(&[], &[], &[]);
    assert_eq!(ask(&chain, "a", none()).await, "10.0.0.1/32 | 10.0.0.0/32");
    assert_eq!(ask(&chain, "b", none()).await, "10.0.0.3/32 | 10.0.0.2/32");
    assert_eq!(ask(&chain, "a", none()).await, "10.0.0.1/32 | 10.0.0.0/32");
    let taken = with(&["10.0.0.1/32"], &["10.0.0.0/32"], &[]);
    assert_eq!(ask(&chain, "c", taken.clone()).await, "10.0.0.5/32 | 10.0.0.4/32", "a pair of `a`");
    let excluded = with(&["10.0.0.1/32"], &["10.0.0.0/32"], &["10.0.0.0/30"]);
    assert_eq!(ask(&chain, "a", excluded.clone()).await, "10.0.0.7/32 | 10.0.0.6/32", "excluded later");
    assert_eq!(element.pairs(), 3);
    assert_eq!(ask(&chain, "d", none()).await, "10.0.0.1/32 | 10.0.0.0/32", "free since then");
    let full = ask(&chain, "e", none()).await;
    let named = "no two free addresses left in 10.0.0.0/29 (0 prefixes excluded by the Request)";
    assert!(full.contains(named), "{full}");
    chain.close(Close::new(Connection::named("b"))).await.unwrap();
    assert_eq!(element.pairs(), 3);
    assert_eq!(ask(&chain, "e", none()).await, "10.0.0.3/32 | 10.0.0.2/32");
    tasks.stop().await;
    drop(chain);
    assert_eq!(element.pairs(), 0, "the lanes have ended");
}

#[tokio::test]
async fn a_failing_request_leaves_the_pairs_of_before() {
    let tasks = Tasks::default();
    // The second group has one pair only: without it, that of the first is not kept either.
    let element = element("10.0.0.0/24,11.0.0.0/31");
    let chain = chain(&element, &tasks);
    let first = ask(&chain, "a", with(&[], &[], &[])).await;
    let error = ask(&chain, "b", with(&[], &[], &[])).await;
    assert!(error.contains("11.0.0.0/31"), "{error}");
    let error = ask(&chain, "a", with(&[], &[], &["10.0.0.0/31", "11.0.0.0/31"])).await;
    assert!(error.contains("(2 prefixes excluded"), "{error}");
    assert_eq!(element.pairs(), 2);
    assert_eq!(ask(&chain, "a", with(&[], &[], &[])).await, first);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_laws() {
    let element = element("10.0.0.0/24,fd00::/64");
    laws::check_with(|| element.clone(), || element.pairs()).await.unwrap();
}
