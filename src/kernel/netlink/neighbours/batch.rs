// SPDX-License-Identifier: Apache-2.0

//! Encodes requests about neighbours once, and sends them many times.
//!
//! The prober repeats the same requests several times a second. Only their sequence numbers change.

use std::{net::IpAddr, time::Duration};

use rtnetlink::{
    packet_core::{
        ErrorContext, NLM_F_CREATE, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
        NlasIterator,
    },
    packet_route::{
        RouteNetlinkMessage::{self, GetNeighbour, NewNeighbour},
        neighbour::{NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState},
    },
};

use super::super::{answers::Answers, message::neighbour};
use crate::kernel::{
    Mac, Refusal,
    backend::errno,
    liveness::{Neighbour, Sight},
};

/// Maximum number of requests in a datagram.
pub(super) const BATCH: usize = 32;
/// Offset of the sequence number in a message.
const SEQUENCE: usize = 8;
/// Type of a message that describes a neighbour (`RTM_NEWNEIGH`).
const NEW_NEIGHBOUR: u16 = 28;
/// Length of the header of such a message (`struct ndmsg`).
const NEIGHBOUR_HEADER: usize = 12;
/// The attribute with the link-layer address (`NDA_LLADDR`).
const LINK_LAYER_ADDRESS: u16 = 2;
/// The attribute with the times of an entry (`NDA_CACHEINFO`); the first is that since the last
/// answer, in ticks.
const TIMES: u16 = 3;
/// A tick of the kernel's interfaces (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A request, with its flags.
pub(super) type Request = (RouteNetlinkMessage, u16);

/// Requests in a datagram.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Offset of each request.
    starts: Vec<usize>,
}

impl Batch {
    pub(super) fn of(requests: impl IntoIterator<Item = Request>) -> Self {
        let mut batch = Self::default();
        for (request, flags) in requests {
            let mut message = NetlinkMessage::from(request);
            message.header.flags = flags;
            message.finalize();
            let start = batch.bytes.len();
            batch.bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut batch.bytes[start..start + message.buffer_len()]);
            batch.starts.push(start);
        }
        batch
    }

    /// Number of requests.
    pub(super) fn len(&self) -> u32 {
        self.starts.len() as u32
    }

    /// The datagram. The requests have this sequence number and those that follow.
    pub(super) fn numbered(&mut self, first: u32) -> &[u8] {
        for (at, number) in self.starts.iter().zip(0..) {
            let number = first.wrapping_add(number).to_ne_bytes();
            self.bytes[at + SEQUENCE..][..number.len()].copy_from_slice(&number);
        }
        &self.bytes
    }
}

/// Batches with the requests that belong to a key. They are encoded when the key changes.
#[derive(Debug)]
pub(super) struct Batches<T> {
    bridge: u32,
    key: Vec<T>,
    batches: Vec<Batch>,
}

impl<T: Clone + PartialEq> Batches<T> {
    pub(super) const fn new() -> Self {
        Self { bridge: 0, key: Vec::new(), batches: Vec::new() }
    }

    /// The requests about some neighbours on a bridge.
    pub(super) fn of<I: Iterator<Item = Request>>(
        &mut self,
        bridge: u32,
        key: &[T],
        requests: impl Fn(&T) -> I,
    ) -> &mut [Batch] {
        if self.bridge != bridge || self.key != key {
            self.bridge = bridge;
            self.key = key.to_vec();
            let chunks = key.chunks(BATCH);
            self.batches = chunks.map(|chunk| Batch::of(chunk.iter().flat_map(&requests))).collect();
        }
        &mut self.batches
    }
}

/// The request for the entry of an address.
pub(super) fn get(address: IpAddr, bridge: u32) -> Request {
    (GetNeighbour(neighbour(address, bridge)), NLM_F_REQUEST)
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

/// The requests that make the kernel solicit a neighbour in this state. If the kernel's own timers
/// are `slow`, a neighbour that is being solicited is solicited again.
pub(super) fn questions(
    address: IpAddr,
    sight: Sight,
    slow: bool,
    bridge: u32,
) -> impl Iterator<Item = Request> {
    use Question::{Doubt, Probe, Resolve};
    let questions: &[Question] = match sight {
        Sight::Answered | Sight::Unconfirmed => &[Probe],
        Sight::GivenUp | Sight::Unknown => &[Resolve],
        Sight::Asked if slow => &[Doubt, Probe],
        Sight::Asked | Sight::Fixed => &[],
    };
    questions.iter().map(move |question| question.of(address, bridge))
}

impl Question {
    fn of(self, address: IpAddr, bridge: u32) -> Request {
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

/// The object in an answer; `None` for an acknowledgement.
pub(super) fn object(answer: &[u8]) -> Result<Option<RouteNetlinkMessage>, Refusal> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer).map_err(Refusal::broken)?;
    if let NetlinkPayload::Error(error) = &message.payload
        && error.code.is_none()
    {
        return Ok(None);
    }
    let mut answers = Answers::default();
    answers.take(message)?;
    Ok(answers.objects.pop())
}

/// The entry in an answer to [`get`]. Reads only the two fields that are needed.
pub(super) fn entry(answer: &[u8]) -> Result<Option<Neighbour>, Refusal> {
    let message = NetlinkBuffer::new_checked(answer).map_err(Refusal::broken)?;
    if message.message_type() != NEW_NEIGHBOUR {
        return match object(answer) {
            Err(refusal) if refusal.errno == errno::ENOENT => Ok(Some(Neighbour::unknown())),
            other => other.map(|_| None),
        };
    }
    let header = NeighbourHeader::parse(message.payload()).context("a neighbour").map_err(Refusal::broken)?;
    let attributes = message.payload().get(NEIGHBOUR_HEADER..).unwrap_or_default();
    let mut found = Neighbour { sight: sight(header.state), ..Neighbour::unknown() };
    for attribute in NlasIterator::new(attributes).filter_map(Result::ok) {
        match attribute.kind() {
            LINK_LAYER_ADDRESS => found.mac = Mac::of(attribute.value()),
            TIMES => found.answered_ago = ticks(attribute.value()),
            _ => {}
        }
    }
    Ok(Some(found))
}

fn ticks(times: &[u8]) -> Option<Duration> {
    let first = times.first_chunk().copied()?;
    TICK.checked_mul(u32::from_ne_bytes(first))
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

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::neighbour::NeighbourAttribute;

    use super::*;

    fn addresses() -> Vec<IpAddr> {
        (1..=40).map(|host| IpAddr::from([172, 16, 1, host])).collect()
    }

    #[test]
    fn requests_are_encoded_again_only_for_others() {
        let addresses = addresses();
        let mut batches = Batches::new();
        let sent = |batches: &mut Batches<IpAddr>, bridge, addresses: &[IpAddr]| -> Vec<Vec<u8>> {
            let requests = |address: &IpAddr| [get(*address, bridge)].into_iter();
            batches
                .of(bridge, addresses, requests)
                .iter_mut()
                .map(|batch| batch.numbered(7).to_vec())
                .collect()
        };
        let first = sent(&mut batches, 3, &addresses);
        assert_eq!(first.len(), 2, "40 are more than a datagram has");
        assert_eq!(sent(&mut batches, 3, &addresses), first);
        assert_ne!(sent(&mut batches, 4, &addresses), first, "another bridge");
        assert_eq!(sent(&mut batches, 3, &addresses[..32]), first[..1], "fewer");
    }

    #[test]
    fn each_request_has_its_number_and_keeps_its_content() {
        let mut batch = Batch::of(addresses()[..2].iter().map(|address| get(*address, 3)));
        for first in [1, u32::MAX] {
            let mut rest = batch.numbered(first);
            for (at, address) in addresses()[..2].iter().enumerate() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).unwrap();
                assert_eq!(message.header.sequence_number, first.wrapping_add(at.try_into().unwrap()));
                assert_eq!(message.payload, NetlinkPayload::InnerMessage(get(*address, 3).0));
                rest = &rest[message.header.length as usize..];
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn an_entry_is_read_from_the_kernels_answer() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let address = "172.16.1.2".parse().unwrap();
        let table = [
            (NeighbourState::Reachable, Sight::Answered),
            (NeighbourState::Probe, Sight::Asked),
            (NeighbourState::Incomplete, Sight::Asked),
            (NeighbourState::Stale, Sight::Unconfirmed),
            (NeighbourState::Delay, Sight::Unconfirmed),
            (NeighbourState::Failed, Sight::GivenUp),
            (NeighbourState::Permanent, Sight::Fixed),
            (NeighbourState::Noarp, Sight::Fixed),
            (NeighbourState::None, Sight::Unknown),
        ];
        for (state, sight) in table {
            for mac in [None, Some(mac)] {
                let mut message = neighbour(address, 3);
                message.header.state = state;
                let mac_bytes = mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
                message.attributes.extend(mac_bytes);
                let mut answer = Batch::of([(NewNeighbour(message), 0)]);
                assert_eq!(
                    entry(answer.numbered(1)),
                    Ok(Some(Neighbour { sight, mac, answered_ago: None })),
                    "{state:?}"
                );
            }
        }
        assert!(entry(&[1, 2, 3]).is_err());
    }
}
