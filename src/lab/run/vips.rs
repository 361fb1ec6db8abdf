// SPDX-License-Identifier: Apache-2.0
//! Add and remove VIPs under traffic, and let NSP forget them all.

use std::{net::IpAddr, time::Duration};

use super::{
    Run,
    bring_up::set_vips,
    eventually,
    leaks::Talkers,
    reach::{ask_vip, settled},
    verdict::Verdict,
};
use crate::{
    api::Family,
    lab::{
        error::{Doing, LabError},
        topology::client,
        traffic::{
            flows::Transport,
            stream::{Sent, Stream},
        },
    },
};

/// Flows of the traffic to each VIP that stays, and the pace of each.
const FLOWS: usize = 4;
const PACE: Duration = Duration::from_millis(5);
/// How long an empty list is watched.
const EMPTY: Duration = Duration::from_secs(1);
/// How long a removed VIP may still answer.
const REMOVAL: Duration = Duration::from_secs(5);

/// Traffic to every VIP of the topology.
struct Traffic(Vec<Stream>);

impl Traffic {
    fn start(run: &Run) -> Result<Self, LabError> {
        let netns = &run.world.fabric.client.netns;
        let start = |vip: IpAddr| {
            Stream::start(netns, client(Family::of(vip)), vip, FLOWS, PACE).doing(|| format!("send to {vip}"))
        };
        run.world.topology.vips().into_iter().map(start).collect::<Result<_, _>>().map(Self)
    }

    async fn finish(self) -> Sent {
        let mut all = Sent::default();
        for stream in self.0 {
            let one = stream.finish().await;
            all = Sent { sent: all.sent + one.sent, answered: all.answered + one.answered };
        }
        all
    }
}

fn judge_traffic(run: &mut Run, name: &str, sent: Sent) {
    let verdict = Verdict::new(name, sent.sent > 0 && sent.lost() == 0);
    run.judge(verdict.figure("sent", sent.sent).figure("lost", sent.lost()));
}

async fn carry(run: &mut Run, vips: &[IpAddr]) -> Result<(), LabError> {
    for target in &mut run.world.targets {
        target.set_vips(vips).await?;
    }
    Ok(())
}

/// Add a VIP of each family and remove it again, while the others are in use. While it is removed, targets still send from it.
pub(super) async fn come_and_go_under_traffic(run: &mut Run) -> Result<(), LabError> {
    let (vips, spare) = (run.world.topology.vips(), run.world.topology.spare_vips());
    let more: Vec<IpAddr> = vips.iter().chain(&spare).copied().collect();

    let traffic = Traffic::start(run)?;
    set_vips(run, &more);
    carry(run, &more).await?;
    let mut answered = 0;
    for vip in &spare {
        settled(run, *vip).await?;
        answered += ask_vip(run, *vip, Transport::Tcp, 8).await.answered;
    }
    let added = Verdict::new("an added VIP answers", answered == 8 * spare.len());
    run.judge(added.figure("answered", answered));
    let sent = traffic.finish().await;
    judge_traffic(run, "adding a VIP loses nothing of the others", sent);

    let traffic = Traffic::start(run)?;
    let talkers = Talkers::start(run, &spare)?;
    set_vips(run, &vips);
    for vip in &spare {
        let gone = eventually("a removed VIP does not answer", REMOVAL, async || {
            match ask_vip(run, *vip, Transport::Udp, 2).await.answered {
                0 => Ok(()),
                some => Err(format!("{some} answers from {vip}")),
            }
        });
        gone.await?;
    }
    let verdict = talkers.judge(run, "packets of a removed VIP are dropped, not leaked");
    run.judge(verdict);
    carry(run, &vips).await?;
    let sent = traffic.finish().await;
    judge_traffic(run, "removing a VIP loses nothing of the others", sent);
    Ok(())
}

/// Let NSP answer with an empty list, as after its restart, while everything is in use.
pub(super) async fn an_empty_list_is_held(run: &mut Run) -> Result<(), LabError> {
    let traffic = Traffic::start(run)?;
    let talkers = Talkers::start(run, &run.world.topology.vips())?;
    set_vips(run, &[]);
    tokio::time::sleep(EMPTY).await;
    let vips = run.world.topology.vips();
    set_vips(run, &vips);
    tokio::time::sleep(EMPTY / 2).await;
    let verdict = talkers.judge(run, "nothing leaks when NSP forgets every VIP");
    run.judge(verdict);
    let sent = traffic.finish().await;
    judge_traffic(run, "an empty list that is corrected loses nothing", sent);
    Ok(())
}
