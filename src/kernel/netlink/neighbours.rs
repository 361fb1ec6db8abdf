// SPDX-License-Identifier: Apache-2.0

//! Reads and probes neighbours, on a separate socket.
//!
//! The kernel answers a request while the request is being sent, so nothing here waits. Several
//! requests share a datagram.

use std::{io, net::IpAddr, time::Duration};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage::{self, GetLink, GetNeighbour, NewLink, NewNeighbour, SetNeighbourTable},
        link::{LinkAttribute, LinkMessage},
        neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::time::Instant;

use super::{address_family, answers::Answers, message::neighbour};
use crate::{
    api::Family,
    kernel::{
        Mac, Ours, Refusal,
        backend::errno,
        liveness::{Neighbour, Neighbours, Settings, Sight},
    },
};

/// Maximum number of requests in a datagram.
const BATCH: usize = 32;
/// Bytes of the largest datagram: an answer holds one object, and that of a link is some 2 KiB.
const DATAGRAM: usize = 8192;
/// How often the timers are set again, in case another program has changed them.
const TIMERS: Duration = Duration::from_secs(60);

/// A socket for neighbours.
pub(super) struct NeighbourSocket {
    socket: Socket,
    /// The timers to set; `None` leaves them unchanged.
    settings: Option<Settings>,
    /// Index of our bridge, while the bridge is the same.
    bridge: Option<u32>,
    /// When the timers are set again.
    timers: Option<Instant>,
    /// Families whose timers could not be set, so that the kernel repeats a solicitation too
    /// slowly: these are probed each time.
    slow: [bool; 2],
    sequence: u32,
    /// The last datagram received.
    received: Box<[u8; DATAGRAM]>,
}

impl NeighbourSocket {
    pub(super) fn open(settings: Option<Settings>) -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            settings,
            bridge: None,
            timers: None,
            slow: [false; 2],
            sequence: 0,
            received: Box::new([0; DATAGRAM]),
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
        let mut found = self.ask_all([(GetLink(request), NLM_F_REQUEST)])?;
        let link = found.pop().unwrap_or_else(|| Err(Refusal::broken("no answer about the bridge")))?;
        let Some(NewLink(link)) = link else { return Err(Refusal::errno(errno::ENODEV)) };
        let bridge = link.header.index;
        if let Some(settings) = self.settings {
            self.set_all_timers(bridge, settings)?;
        }
        (self.bridge, self.timers) = (Some(bridge), Some(Instant::now() + TIMERS));
        Ok(bridge)
    }

    /// Sets the timers of both families. A family whose timers cannot be set is probed each time.
    fn set_all_timers(&mut self, bridge: u32, settings: Settings) -> Result<(), Refusal> {
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
        let mut answers = self.ask_all([(SetNeighbourTable(message), NLM_F_REQUEST | NLM_F_ACK)])?;
        Ok(answers.pop().unwrap_or(Ok(None)).map(drop))
    }

    /// Sends requests and returns the answer to each: an object, nothing, or a refusal.
    #[allow(clippy::type_complexity)]
    fn ask_all(
        &mut self,
        requests: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> Result<Vec<Result<Option<RouteNetlinkMessage>, Refusal>>, Refusal> {
        let first = self.sequence.wrapping_add(1);
        let count = self.send(requests)?;
        let mut answers = vec![Ok(None); count];
        let mut missing = count;
        while missing > 0 {
            let datagram = match self.socket.recv(&mut &mut self.received[..], 0) {
                Ok(length) => &self.received[..length],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Refusal::broken(error)),
            };
            let mut rest = datagram;
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(Refusal::broken)?;
                let length = (message.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or_default();
                // Answers to earlier requests have another number.
                let at = message.header.sequence_number.wrapping_sub(first) as usize;
                if let Some(answer) = answers.get_mut(at) {
                    *answer = object(message);
                    missing = missing.saturating_sub(1);
                }
            }
        }
        Ok(answers)
    }

    /// Sends requests in one datagram and returns how many were sent.
    fn send(
        &mut self,
        requests: impl IntoIterator<Item = (RouteNetlinkMessage, u16)>,
    ) -> Result<usize, Refusal> {
        let mut bytes = Vec::new();
        let mut count = 0;
        for (request, flags) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut message = NetlinkMessage::from(request);
            message.header.flags = flags;
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..start + message.buffer_len()]);
            count += 1;
        }
        if count > 0 {
            self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(Refusal::broken)?;
        }
        Ok(count)
    }
}

impl Neighbours for NeighbourSocket {
    fn look(&mut self, ours: &Ours, addresses: &[IpAddr]) -> Result<Vec<Neighbour>, Refusal> {
        let bridge = self.bridge(ours)?;
        let mut neighbours = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            let gets = batch.iter().map(|address| (GetNeighbour(neighbour(*address, bridge)), NLM_F_REQUEST));
            for answer in self.ask_all(gets)? {
                match answer {
                    Ok(Some(NewNeighbour(it))) => neighbours.push(entry(&it)),
                    Err(refusal) if refusal.errno == errno::ENOENT => {
                        neighbours.push(Neighbour { sight: Sight::Unknown, mac: None });
                    }
                    Err(refusal) => {
                        self.bridge = None; // the bridge may have been created again
                        return Err(refusal);
                    }
                    Ok(_) => return Err(Refusal::broken("no answer about a neighbour")),
                }
            }
        }
        Ok(neighbours)
    }

    fn ask(&mut self, addresses: &[(IpAddr, Sight)]) -> Result<(), Refusal> {
        let Some(bridge) = self.bridge else { return Ok(()) };
        for batch in addresses.chunks(BATCH) {
            let slow = self.slow;
            let questions = batch.iter().flat_map(|(address, sight)| {
                let slow = slow[usize::from(address.is_ipv6())];
                questions(*sight, slow).map(|question| question.of(*address, bridge))
            });
            self.send(questions.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// How the kernel is made to solicit a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Mark the known address as stale, so that the next `Probe` solicits at once.
    Doubt,
    /// Verify the known address.
    Probe,
    /// Resolve the address, as for a packet to it.
    Resolve,
}

/// The requests that a neighbour in this state needs.
fn questions(sight: Sight, slow: bool) -> impl Iterator<Item = Question> {
    use Question::{Doubt, Probe, Resolve};
    let questions: &[Question] = match sight {
        Sight::Answered | Sight::Unconfirmed => &[Probe],
        Sight::GivenUp | Sight::Unknown => &[Resolve],
        Sight::Asked if slow => &[Doubt, Probe],
        Sight::Asked | Sight::Fixed => &[],
    };
    questions.iter().copied()
}

impl Question {
    fn of(self, address: IpAddr, bridge: u32) -> (RouteNetlinkMessage, u16) {
        let mut message: NeighbourMessage = neighbour(address, bridge);
        let mut flags = NLM_F_REQUEST;
        match self {
            Question::Doubt => message.header.state = NeighbourState::Stale,
            Question::Probe => message.header.state = NeighbourState::Probe,
            Question::Resolve => {
                message.header.flags = NeighbourFlags::Use;
                flags |= NLM_F_CREATE;
            }
        }
        (NewNeighbour(message), flags)
    }
}

const fn table(family: Family) -> &'static str {
    match family {
        Family::V4 => "arp_cache",
        Family::V6 => "ndisc_cache",
    }
}

fn object(message: NetlinkMessage<RouteNetlinkMessage>) -> Result<Option<RouteNetlinkMessage>, Refusal> {
    if let NetlinkPayload::Error(error) = &message.payload
        && error.code.is_none()
    {
        return Ok(None);
    }
    let mut answers = Answers::default();
    answers.take(message)?;
    Ok(answers.objects.pop())
}

fn entry(message: &NeighbourMessage) -> Neighbour {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::of(bytes),
        _ => None,
    });
    Neighbour { sight: sight(message.header.state), mac }
}

fn sight(state: NeighbourState) -> Sight {
    match state {
        NeighbourState::Reachable => Sight::Answered,
        NeighbourState::Probe | NeighbourState::Incomplete => Sight::Asked,
        NeighbourState::Stale | NeighbourState::Delay => Sight::Unconfirmed,
        NeighbourState::Failed => Sight::GivenUp,
        NeighbourState::Permanent | NeighbourState::Noarp => Sight::Fixed,
        _ => Sight::Unknown,
    }
}
