// SPDX-License-Identifier: Apache-2.0
//! Asks every VIP over UDP and TCP, and reads from the kernel's counters which load balancer
//! carried which packets.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{Run, bring_up::milliseconds, eventually, verdict::Verdict};
use crate::{
    error::LabError,
    topology::client,
    traffic::flows::{Answers, Transport, ask},
    world::fabric::LB_TO_CLIENT,
};
use nsm::api::Family;

/// Flows per VIP and transport: the odds that one of three targets gets none of them by chance are
/// 1 to 10¹⁰.
const FLOWS: usize = 64;
/// Timeout until every flow is answered.
const SETTLE: Duration = Duration::from_secs(10);
/// The same with another program: the faults that follow are compared even if it needs longer.
const SETTLE_OF_OTHER: Duration = Duration::from_secs(90);

/// Packets through a load balancer, by its links.
#[derive(Clone, Debug, Default)]
struct Carried {
    name: String,
    from_client: u64,
    to_targets: u64,
    from_targets: u64,
    to_client: u64,
}

async fn carried(run: &Run) -> Result<Vec<Carried>, LabError> {
    let mut all = Vec::new();
    for pod in &run.world.fabric.lbs {
        let mut carried = Carried { name: pod.name.clone(), ..Carried::default() };
        for link in pod.netlink.links().await? {
            if link.name == LB_TO_CLIENT {
                (carried.from_client, carried.to_client) = (link.received, link.sent);
            } else if link.alias.starts_with("client-") {
                carried.from_targets += link.received;
                carried.to_targets += link.sent;
            }
        }
        all.push(carried);
    }
    Ok(all)
}

/// Asks a VIP over one transport.
pub(super) async fn ask_vip(run: &Run, vip: IpAddr, transport: Transport, flows: usize) -> Answers {
    ask(&run.world.fabric.client.netns, client(Family::of(vip)), vip, transport, flows).await
}

/// Waits until a VIP answers from every target.
pub(super) async fn settled(run: &Run, vip: IpAddr) -> Result<(), LabError> {
    let targets = run.world.targets.len();
    let limit = if run.world.has_other_program() { SETTLE_OF_OTHER } else { SETTLE };
    eventually(&format!("{vip} answers"), limit, async || {
        let answers = ask_vip(run, vip, Transport::Udp, FLOWS).await;
        if answers.complete(targets) { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await
    .map(drop)
}

/// Asks every VIP over every transport: each question is answered, by the VIP, and every target has
/// a share; every load balancer carries packets in both directions.
pub(super) async fn everywhere(run: &mut Run, name: &str) -> Result<(), LabError> {
    let vips = run.world.topology.vips();
    let targets = run.world.targets.len();
    let start = Instant::now();
    for vip in &vips {
        settled(run, *vip).await?;
    }
    let settled = milliseconds(start.elapsed());
    let before = carried(run).await?;
    let mut complete = true;
    let mut all = Answers::default();
    for vip in &vips {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answers = ask_vip(run, *vip, transport, FLOWS).await;
            if !answers.complete(targets) {
                eprintln!("          {transport} {vip}: {answers:?}");
                complete = false;
            }
            all.merge(answers);
        }
    }
    let after = carried(run).await?;
    let shares: Vec<String> = all.by.iter().map(|(target, count)| format!("{target} {count}")).collect();
    let verdict = Verdict::new(name, complete).figure("asked", all.sent).figure("answered", all.answered);
    run.judge(verdict.figure("by", shares.join(" ")).figure("ms until all flow", settled));
    let source = Verdict::new("the client sees the VIP as source", all.answered > 0 && all.wrong_source == 0);
    run.judge(source.figure("from another address", all.wrong_source));
    judge_balancers(run, &before, &after);
    Ok(())
}

fn judge_balancers(run: &mut Run, before: &[Carried], after: &[Carried]) {
    let mut both = true;
    let mut verdict = Verdict::new("every load balancer carries in both directions", true);
    for (before, after) in before.iter().zip(after) {
        let directions = [
            after.from_client.saturating_sub(before.from_client),
            after.to_targets.saturating_sub(before.to_targets),
            after.from_targets.saturating_sub(before.from_targets),
            after.to_client.saturating_sub(before.to_client),
        ];
        both &= directions.iter().all(|packets| *packets > 0);
        let [a, b, c, d] = directions;
        verdict = verdict.figure(&after.name, format!("in {a}→{b} out {c}→{d}"));
    }
    verdict.ok = both;
    run.judge(verdict);
}
