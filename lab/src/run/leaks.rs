// SPDX-License-Identifier: Apache-2.0
//! Checks that no packet with a VIP as source ever leaves by the primary network.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{Run, eventually, verdict::Verdict};
use crate::{
    error::{Doing, LabError},
    topology::client,
    traffic::talk::Talk,
    world::World,
};
use nsm::api::Family;

/// Duration of a phase.
const PHASE: Duration = Duration::from_millis(500);
/// Pace of one sender.
const PACE: Duration = Duration::from_millis(4);
/// Timeout for the first counted packet.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends a packet with a VIP as source out of the primary link, in each family, and checks that it
/// is counted. Without this, a count of 0 would prove nothing.
pub(super) async fn show_that_the_counter_counts(run: &mut Run) -> Result<(), LabError> {
    let before = run.world.leak.count();
    let proxy = &run.world.fabric.proxies[0];
    let lo = proxy.netlink.index("lo").await?;
    let families = run.world.topology.families.clone();
    for family in families {
        let vip = crate::topology::vip(family, 1);
        proxy.netlink.set_addresses(lo, &[IpNet::from(vip)]).await?;
        let seen = run.world.leak.count();
        let to = outside(&run.world, family);
        let talk = Talk::start(&proxy.netns, vip, to, PACE).doing(|| format!("send from {vip}"))?;
        eventually("the leak counter counts", COUNT_TIMEOUT, async || match run.world.leak.count() > seen {
            true => Ok(()),
            false => Err(format!("{} packets sent from {vip}, none counted", talk.sent())),
        })
        .await?;
    }
    proxy.netlink.set_addresses(lo, &[]).await?;
    let counted = run.world.leak.count() - before;
    run.judge(
        Verdict::new("the leak counter sees what it must never see", counted > 0).figure("counted", counted),
    );
    Ok(())
}

/// The address at the far end of the primary link.
fn outside(world: &World, family: Family) -> Vec<IpAddr> {
    let [outside, _] = world.topology.primary_cable(0);
    outside.iter().map(IpNet::addr).filter(|address| Family::of(*address) == family).collect()
}

/// Senders from every VIP of every target, to the client and straight to the far end of the primary
/// link.
pub(super) struct Talkers {
    talks: Vec<Talk>,
    leaked_before: u64,
}

impl Talkers {
    pub(super) fn start(world: &World, vips: &[IpAddr]) -> Result<Self, LabError> {
        let leaked_before = world.leak.count();
        let mut talks = Vec::new();
        for pod in &world.fabric.targets {
            for vip in vips {
                let family = Family::of(*vip);
                let to = outside(world, family).into_iter().chain([client(family)]).collect();
                let talk = Talk::start(&pod.netns, *vip, to, PACE);
                talks.push(talk.doing(|| format!("send from {vip} in {}", pod.name))?);
            }
        }
        Ok(Self { talks, leaked_before })
    }

    /// Number of packets with a VIP as source that were counted outside.
    pub(super) fn leaked(&self, world: &World) -> u64 {
        world.leak.count() - self.leaked_before
    }

    /// Whether packets were sent and none was counted outside.
    pub(super) fn judge(self, world: &World, name: &str) -> Verdict {
        let sent: u64 = self.talks.iter().map(Talk::sent).sum();
        let leaked = self.leaked(world);
        Verdict::new(name, sent > 0 && leaked == 0).figure("sent", sent).figure("leaked", leaked)
    }
}

/// Lets every target send for a while, and checks that none of it is counted outside.
pub(super) async fn quiet(run: &mut Run, name: &str) -> Result<(), LabError> {
    let talkers = Talkers::start(&run.world, &run.world.topology.vips())?;
    tokio::time::sleep(PHASE).await;
    let verdict = talkers.judge(&run.world, name);
    run.judge(verdict);
    Ok(())
}
