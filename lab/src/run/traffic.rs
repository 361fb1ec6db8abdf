// SPDX-License-Identifier: Apache-2.0
//! The traffic of a run, with each direction measured separately: client to VIPs, and VIPs to
//! client.
//!
//! While it runs, targets also send from their VIPs straight to the far end of the primary link,
//! where none of it may arrive.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::leaks::Talkers;
use crate::{
    error::{Doing, LabError},
    network::netns::Netns,
    topology::client,
    traffic::{
        echo::bind_udp,
        record::{Loss, Record},
        stream::{Flow, PORT, Stream},
    },
    world::World,
};
use nsm::api::Family;

/// Time between two datagrams of a flow.
pub(super) const PACE: Duration = Duration::from_millis(10);
/// Flows from the client to each VIP. Together, the flows of all VIPs use every load balancer and
/// target.
const TO_VIP: usize = 6;
/// Flows from each VIP of each target.
const FROM_VIP: usize = 2;
/// How long a datagram may be in transit before it counts as lost.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(300);

/// A direction of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the targets.
    Ingress,
    /// From the targets to the client.
    Egress,
}

impl Direction {
    /// Both.
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Its name in figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Running traffic.
pub(super) struct Traffic {
    ingress: Stream,
    egress: Stream,
    /// The VIP of each flow of the client.
    vips: Vec<IpAddr>,
    /// The target, by its number, and the VIP of each flow of the targets.
    senders: Vec<(usize, IpAddr)>,
    /// Number of sockets at which each target receives.
    receivers_of_target: usize,
    talkers: Talkers,
}

fn bind(netns: &Netns, at: SocketAddr) -> Result<tokio::net::UdpSocket, LabError> {
    let bound: io::Result<_> = netns.run(|| bind_udp(at));
    bound.doing(|| format!("bind {at}"))
}

impl Traffic {
    /// Sends from the client to these VIPs, and from these VIPs of every target to the client.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub(super) fn start(world: &World, vips: &[IpAddr]) -> Result<Self, LabError> {
        let talkers = Talkers::start(world, vips)?;
        let from_client = vips.iter().flat_map(|vip| std::iter::repeat_n(*vip, TO_VIP)).collect::<Vec<_>>();
        let targets = 0..world.fabric.targets.len();
        let senders = targets
            .flat_map(|target| vips.iter().map(move |vip| (target, *vip)))
            .flat_map(|sender| std::iter::repeat_n(sender, FROM_VIP));
        let senders: Vec<_> = senders.collect();
        Ok(Self {
            ingress: ingress(world, &from_client, vips)?,
            egress: egress(world, &senders)?,
            vips: from_client,
            senders,
            receivers_of_target: vips.len().max(1),
            talkers,
        })
    }

    fn stream(&self, direction: Direction) -> &Stream {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// The loss of a direction in a period. Its end should lie [`UNDER_WAY`] in the past.
    pub(super) fn loss(&self, direction: Direction, period: Range<Instant>) -> Loss {
        self.loss_of(direction, period, |_| true)
    }

    /// The loss of those flows of a direction in a period for which `of` is true.
    pub(super) fn loss_of(
        &self,
        direction: Direction,
        period: Range<Instant>,
        of: impl Fn(usize) -> bool,
    ) -> Loss {
        self.stream(direction).record().loss(period, of)
    }

    /// The target, by its number, of each flow of a direction; for ingress that of its last
    /// datagram to arrive.
    pub(super) fn targets(&self, direction: Direction) -> Vec<Option<usize>> {
        match direction {
            Direction::Ingress => {
                let receivers = self.ingress.record().receivers();
                receivers.into_iter().map(|receiver| Some(receiver? / self.receivers_of_target)).collect()
            }
            Direction::Egress => self.senders.iter().map(|(target, _)| Some(*target)).collect(),
        }
    }

    /// Whether every datagram of a direction that was sent between `since` and a moment ago has
    /// arrived, and some were sent.
    pub(super) fn is_whole(&self, direction: Direction, since: Instant) -> bool {
        let loss = self.loss(direction, since..Instant::now() - UNDER_WAY);
        loss.sent > 0 && loss.lost == 0
    }

    /// Number of packets with a VIP as source that were counted outside.
    pub(super) fn leaked(&self, world: &World) -> u64 {
        self.talkers.leaked(world)
    }

    /// The loss of each VIP, and in egress of each target, in a period; only those with losses, a
    /// line each.
    pub(super) fn details(&self, direction: Direction, period: &Range<Instant>) -> String {
        let record = self.stream(direction).record();
        let of = |names: Vec<String>| losers(&record, period, &names).join("\n          ");
        match direction {
            Direction::Ingress => of(self.vips.iter().map(|vip| format!("to {vip}")).collect()),
            Direction::Egress => of(self
                .senders
                .iter()
                .map(|(target, vip)| format!("from {vip} of t{}", target + 1))
                .collect()),
        }
    }

    /// Ends, and closes the sockets before the return.
    pub(super) async fn end(self) {
        self.ingress.end().await;
        self.egress.end().await;
    }

    /// Stops sending, waits for datagrams in transit, and returns the loss of each direction,
    /// ingress first.
    pub(super) async fn finish(self, since: Instant) -> [Loss; 2] {
        for direction in Direction::BOTH {
            self.stream(direction).rest();
        }
        tokio::time::sleep(UNDER_WAY).await;
        let losses = Direction::BOTH.map(|direction| self.loss(direction, since..Instant::now()));
        self.end().await;
        losses
    }
}

fn losers(record: &Record, period: &Range<Instant>, names: &[String]) -> Vec<String> {
    let mut distinct = names.to_vec();
    distinct.dedup();
    let shown = distinct.iter().filter_map(|name| {
        let loss = record.loss(period.clone(), |flow| names.get(flow) == Some(name));
        (loss.lost > 0).then(|| format!("{name}: {} of {} lost", loss.lost, loss.sent))
    });
    shown.collect()
}

fn ingress(world: &World, to: &[IpAddr], vips: &[IpAddr]) -> Result<Stream, LabError> {
    let client_netns = &world.fabric.client.netns;
    let flows = to
        .iter()
        .map(|vip| {
            let from = bind(client_netns, SocketAddr::new(client(Family::of(*vip)), 0))?;
            Ok(Flow { from, to: SocketAddr::new(*vip, PORT) })
        })
        .collect::<Result<_, LabError>>()?;
    let pods = world.fabric.targets.iter();
    let receivers = pods.flat_map(|pod| vips.iter().map(|vip| bind(&pod.netns, SocketAddr::new(*vip, PORT))));
    Ok(Stream::start(flows, receivers.collect::<Result<_, _>>()?, PACE))
}

fn egress(world: &World, senders: &[(usize, IpAddr)]) -> Result<Stream, LabError> {
    let flows = senders
        .iter()
        .map(|(target, vip)| {
            let from = bind(&world.fabric.targets[*target].netns, SocketAddr::new(*vip, 0))?;
            Ok(Flow { from, to: SocketAddr::new(client(Family::of(*vip)), PORT) })
        })
        .collect::<Result<_, LabError>>()?;
    let families = world.topology.families.iter();
    let receivers =
        families.map(|family| bind(&world.fabric.client.netns, SocketAddr::new(client(*family), PORT)));
    Ok(Stream::start(flows, receivers.collect::<Result<_, _>>()?, PACE))
}

/// A loss as a figure of a verdict.
pub(super) fn figure(loss: Loss) -> Value {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "datagrams": loss.sent,
        "lost": loss.lost,
        "longest gap ms": milliseconds(loss.longest_gap),
        "whole again ms": loss.whole_after.map(milliseconds),
    })
}
