// SPDX-License-Identifier: Apache-2.0

//! Reads and probes neighbours, on a separate socket.
//!
//! The kernel answers a request while the request is being sent, so nothing here waits. Several
//! requests share a datagram.

mod batch;
mod channel;

use std::{io, net::IpAddr, time::Duration};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_REQUEST},
    packet_route::{
        RouteNetlinkMessage::{self, GetLink, NewLink, SetNeighbourTable},
        link::{LinkAttribute, LinkMessage},
        neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter},
    },
};
use tokio::time::Instant;

use self::{
    batch::{Batch, Batches, Request, entry, get, object, questions},
    channel::{Channel, Reply},
};
use super::address_family;
use crate::{
    api::Family,
    kernel::{
        Ours, Refusal,
        backend::errno,
        liveness::{Neighbour, Neighbours, Settings, Sight},
    },
};

/// How often the timers are set again, in case another program has changed them.
const TIMERS: Duration = Duration::from_secs(60);

/// A socket for neighbours.
pub(super) struct NeighbourSocket {
    channel: Channel,
    /// The timers to set; `None` leaves them unchanged.
    settings: Option<Settings>,
    /// Index of our bridge, while the bridge is the same.
    bridge: Option<u32>,
    /// When the timers are set again.
    timers: Option<Instant>,
    /// Families whose timers could not be set, so that the kernel repeats a solicitation too
    /// slowly: these are probed each time.
    slow: [bool; 2],
    /// The requests for entries, and those for solicitations, that were sent last.
    gets: Batches<IpAddr>,
    solicitations: Batches<(IpAddr, Sight)>,
}

impl NeighbourSocket {
    pub(super) fn open(settings: Option<Settings>) -> io::Result<Self> {
        Ok(Self {
            channel: Channel::open()?,
            settings,
            bridge: None,
            timers: None,
            slow: [false; 2],
            gets: Batches::new(),
            solicitations: Batches::new(),
        })
    }

    /// Index of the bridge, with its timers set.
    fn bridge(&mut self, ours: &Ours) -> Result<u32, Refusal> {
        if let (Some(bridge), Some(due)) = (self.bridge, self.timers)
            && Instant::now() < due
        {
            return Ok(bridge);
        }
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(ours.bridge.to_string()));
        let Some(NewLink(link)) = self.ask_one((GetLink(request), NLM_F_REQUEST))?? else {
            return Err(Refusal::errno(errno::ENODEV));
        };
        let bridge = link.header.index;
        if let Some(settings) = self.settings {
            self.set_all_timers(bridge, settings)?;
        }
        (self.bridge, self.timers) = (Some(bridge), Some(Instant::now() + TIMERS));
        Ok(bridge)
    }

    /// Sets the timers of both families. A family whose timers cannot be set is probed each time.
    fn set_all_timers(&mut self, bridge: u32, settings: Settings) -> Result<(), Refusal> {
        self.solicitations = Batches::new(); // they depend on the outcome
        for (family, slow) in [(Family::V4, 0), (Family::V6, 1)] {
            let set = self.set_timers(family, bridge, settings)?;
            // Without IPv6 on the bridge there are no IPv6 timers and no IPv6 neighbours.
            let failed = set.err().filter(|refusal| refusal.errno != errno::ENOENT);
            if let Some(refusal) = failed.as_ref().filter(|_| !self.slow[slow]) {
                tracing::warn!(%family, %refusal, "the timers of neighbours cannot be set");
            }
            self.slow[slow] = failed.is_some();
        }
        Ok(())
    }

    /// Lets the kernel repeat unanswered solicitations as often as there are probes: first to the
    /// known link-layer address, then to all, because another host may have the address by now.
    fn set_timers(
        &mut self,
        family: Family,
        bridge: u32,
        settings: Settings,
    ) -> Result<Result<(), Refusal>, Refusal> {
        let unicast = settings.probes.div_ceil(2);
        let interval = u64::try_from(settings.interval.as_millis()).unwrap_or(u64::MAX);
        let mut message = NeighbourTableMessage::default();
        message.header.family = address_family(family);
        message.attributes = vec![
            NeighbourTableAttribute::Name(table(family).to_owned()),
            NeighbourTableAttribute::Parms(vec![
                NeighbourTableParameter::Ifindex(bridge),
                NeighbourTableParameter::RetransTime(interval),
                NeighbourTableParameter::UcastProbes(unicast),
                NeighbourTableParameter::McastReprobes(settings.probes - unicast),
            ]),
        ];
        let set = self.ask_one((SetNeighbourTable(message), NLM_F_REQUEST | NLM_F_ACK))?;
        Ok(set.map(drop))
    }

    /// Sends a request and returns the answer: an object, nothing, or a refusal.
    fn ask_one(&mut self, request: Request) -> Result<Reply<RouteNetlinkMessage>, Refusal> {
        let mut answers = Vec::new();
        self.channel.exchange(&mut Batch::of([request]), object, &mut answers)?;
        Ok(answers.pop().unwrap_or(Ok(None)))
    }
}

impl Neighbours for NeighbourSocket {
    fn prepare(&mut self, ours: &Ours) -> Result<(), Refusal> {
        self.bridge(ours).map(drop)
    }

    fn look(&mut self, ours: &Ours, addresses: &[IpAddr]) -> Result<Vec<Neighbour>, Refusal> {
        let bridge = self.bridge(ours)?;
        let mut answers = Vec::with_capacity(addresses.len());
        for batch in self.gets.of(bridge, addresses, |address| [get(*address, bridge)].into_iter()) {
            self.channel.exchange(batch, entry, &mut answers)?;
        }
        let neighbours = answers.into_iter().map(|answer| {
            answer.and_then(|entry| entry.ok_or_else(|| Refusal::broken("no answer about a neighbour")))
        });
        let neighbours: Result<Vec<_>, Refusal> = neighbours.collect();
        if neighbours.is_err() {
            self.bridge = None; // the bridge may have been created again
        }
        neighbours
    }

    fn ask(&mut self, addresses: &[(IpAddr, Sight)]) -> Result<(), Refusal> {
        let Some(bridge) = self.bridge else { return Ok(()) };
        let slow = self.slow;
        let batches = self.solicitations.of(bridge, addresses, |(address, sight)| {
            questions(*address, *sight, slow[usize::from(address.is_ipv6())], bridge)
        });
        batches.iter_mut().try_for_each(|batch| self.channel.send(batch).map(drop))
    }
}

const fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "arp_cache",
        Family::V6 => "ndisc_cache",
    }
}
