// SPDX-License-Identifier: Apache-2.0

//! Sends batches of requests, and finds the answer to each.

use std::io;

use rtnetlink::{
    packet_core::NetlinkBuffer,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::batch::Batch;
use crate::kernel::Refusal;

/// Bytes of the largest datagram: an answer holds one object, and that of a link is some 2 KiB.
const DATAGRAM: usize = 8192;
/// Length of a message's header.
const HEADER: usize = 16;

/// The object in an answer, nothing, or a refusal.
pub(super) type Reply<T> = Result<Option<T>, Refusal>;

/// A socket whose calls do not wait.
pub(super) struct Channel {
    socket: Socket,
    /// Sequence number of the last request.
    sequence: u32,
    /// The last datagram received.
    received: Box<[u8; DATAGRAM]>,
}

impl Channel {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, sequence: 0, received: Box::new([0; DATAGRAM]) })
    }

    /// Sends requests, and returns the sequence number of the first.
    pub(super) fn send(&mut self, batch: &mut Batch) -> Result<u32, Refusal> {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(batch.len());
        if batch.len() > 0 {
            let datagram = batch.numbered(first);
            self.socket.send_to(datagram, &SocketAddr::new(0, 0), 0).map_err(Refusal::broken)?;
        }
        Ok(first)
    }

    /// Sends requests, and appends the answer to each in their order.
    pub(super) fn exchange<T: Clone>(
        &mut self,
        batch: &mut Batch,
        parse: impl Fn(&[u8]) -> Reply<T>,
        answers: &mut Vec<Reply<T>>,
    ) -> Result<(), Refusal> {
        let first = self.send(batch)?;
        let mut missing = batch.len() as usize;
        let start = answers.len();
        answers.resize(start + missing, Ok(None));
        while missing > 0 {
            let mut rest = match self.socket.recv(&mut &mut self.received[..], 0) {
                Ok(length) => &self.received[..length],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Refusal::broken(error)),
            };
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(Refusal::broken)?;
                // Answers to earlier requests have another number.
                let at = message.sequence_number().wrapping_sub(first) as usize;
                if let Some(answer) = answers[start..].get_mut(at) {
                    *answer = parse(rest);
                    missing = missing.saturating_sub(1);
                }
                let length = (message.length() as usize).next_multiple_of(4).max(HEADER);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
        Ok(())
    }
}
