// SPDX-License-Identifier: Apache-2.0
//! Two nodes with a proxy each: load balancers reach every target by the proxy of its node, and the
//! death of one proxy does not affect the other's targets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    Run, bring_up,
    faults::whole,
    reach,
    traffic::{self, Direction, Traffic, UNDER_WAY},
    verdict::Verdict,
};
use crate::{
    error::LabError,
    traffic::{flows::Transport, record::Loss},
    world::balance::FROM_PROXY,
};

/// Name of this story, by which it is selected or skipped.
pub(super) const NAME: &str = "two-nodes";
/// Number of questions to each VIP.
const QUESTIONS: usize = 64;
/// How long traffic is watched before a node dies, and how long the node is dead.
const WATCH: Duration = Duration::from_secs(1);
const DEAD: Duration = Duration::from_secs(3);

/// Brings the two nodes up, and lets the first one's proxy die.
pub(super) async fn story(run: &mut Run) -> Result<(), LabError> {
    bring_up::everything(run).await?;
    judge_subnets(run);
    reach::everywhere(run, "UDP and TCP over every VIP and target").await?;
    judge_ways(run).await?;
    one_dies(run).await
}

/// The targets of each node are in a separate subnet.
fn judge_subnets(run: &mut Run) {
    let mut subnets: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for (number, target) in run.world.targets.iter().enumerate() {
        let own = subnets.entry(run.world.topology.node_of(number)).or_default();
        own.extend(target.addresses().iter().map(|net| net.trunc().to_string()));
    }
    let all: Vec<_> = subnets.values().flatten().collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    let families = run.world.topology.families.len();
    let good = distinct.len() == all.len() && all.len() == families * run.world.topology.nodes;
    let verdict = Verdict::new("each node has a subnet of its own", good);
    run.judge(subnets.iter().fold(verdict, |verdict, (node, subnets)| {
        let subnets = subnets.iter().cloned().collect::<Vec<_>>().join(" ");
        verdict.figure(&format!("node {}", node + 1), subnets)
    }));
}

/// Number of packets that all load balancers have sent to each proxy.
async fn sent_to_proxies(run: &Run) -> Result<Vec<u64>, LabError> {
    let mut sent = vec![0; run.world.proxies.len()];
    for pod in &run.world.fabric.lbs {
        for link in pod.netlink.links().await? {
            let to = run.world.proxies.iter().position(|proxy| {
                let name = proxy.name();
                link.alias.starts_with(&format!("{FROM_PROXY}{name}-"))
            });
            if let Some(proxy) = to {
                sent[proxy] += link.sent;
            }
        }
    }
    Ok(sent)
}

/// Asks every VIP, and compares the answers of each node's targets with the packets to its proxy.
/// One datagram is one packet; a few more resolve link-layer addresses.
async fn judge_ways(run: &mut Run) -> Result<(), LabError> {
    let before = sent_to_proxies(run).await?;
    let mut answers = vec![0; before.len()];
    for vip in run.world.topology.vips() {
        let asked = reach::ask_vip(run, vip, Transport::Udp, QUESTIONS).await;
        for (number, name) in run.world.topology.target_names().iter().enumerate() {
            let answered = asked.by.get(name).copied().unwrap_or_default();
            answers[run.world.topology.node_of(number)] += answered;
        }
    }
    let after = sent_to_proxies(run).await?;
    let mut verdict = Verdict::new("load balancers reach every target by the proxy of its node", true);
    for (node, answered) in answers.into_iter().enumerate() {
        let sent = after[node].saturating_sub(before[node]);
        let answered = u64::try_from(answered).unwrap_or(u64::MAX);
        verdict.ok &= answered > 0 && (answered..=answered + answered / 2).contains(&sent);
        let name = run.world.proxies[node].name();
        verdict = verdict.figure(&name, format!("{sent} packets, {answered} answers of its targets"));
    }
    run.judge(verdict);
    Ok(())
}

/// The flows of each direction that belong to targets of a node.
fn flows_of(run: &Run, traffic: &Traffic, node: usize) -> [Vec<bool>; 2] {
    Direction::BOTH.map(|direction| {
        let targets = traffic.targets(direction);
        targets
            .into_iter()
            .map(|target| target.is_some_and(|t| run.world.topology.node_of(t) == node))
            .collect()
    })
}

/// Lets the pod of the first node's proxy die with all its links, and return.
async fn one_dies(run: &mut Run) -> Result<(), LabError> {
    let vips: Vec<IpAddr> = run.world.topology.vips();
    let traffic = Traffic::start(&run.world, &vips)?;
    let start = Instant::now();
    sleep(WATCH + UNDER_WAY).await;
    let dead = flows_of(run, &traffic, 0);
    let others = flows_of(run, &traffic, 1);
    let death = Instant::now();
    run.world.lose_proxy_pod(0).await?;
    sleep(DEAD).await;
    let rebirth = Instant::now();
    run.world.start_proxy(0)?;
    let recovered = whole(&run.world, &traffic, rebirth).await.is_ok();
    let end = Instant::now() - UNDER_WAY;

    let mut verdict = Verdict::new("the death of a proxy costs the targets of other nodes nothing", true);
    let mut its_own = Verdict::new("a proxy whose pod died serves its targets again", recovered);
    for (index, direction) in Direction::BOTH.into_iter().enumerate() {
        let loss = |flows: &[Vec<bool>; 2], from: Instant| -> Loss {
            traffic.loss_of(direction, from..end, |flow| flows[index].get(flow) == Some(&true))
        };
        let touched = loss(&dead, death);
        let untouched = loss(&others, start);
        verdict.ok &= untouched.sent > 0 && untouched.lost == 0 && touched.lost > 0;
        if untouched.lost > 0 {
            let details = traffic.details(direction, &(start..rebirth));
            eprintln!("          until the return, of all targets:\n          {details}");
        }
        verdict = verdict.figure(direction.name(), traffic::figure(untouched));
        its_own = its_own.figure(direction.name(), traffic::figure(loss(&dead, rebirth)));
    }
    traffic.end().await;
    run.judge(verdict);
    run.judge(its_own);
    Ok(())
}
