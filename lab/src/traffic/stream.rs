// SPDX-License-Identifier: Apache-2.0
//! A stream: datagrams of several flows in one direction, one per flow at every tick, and a record
//! of those that arrive.
//!
//! A datagram that the kernel refuses to send counts as sent and lost. Senders and receivers are
//! sockets of this process, so both ends use one clock.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    net::UdpSocket,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::task::AbortOnDropHandle;

use super::record::Record;

/// Port on which a stream is received.
pub const PORT: u16 = 5001;
/// Bytes of a datagram: numbers of the stream, the flow and the datagram.
const LENGTH: usize = 24;

/// The ends of a flow.
pub struct Flow {
    /// Socket of the sender.
    pub from: UdpSocket,
    /// Address of the receiver.
    pub to: SocketAddr,
}

/// A running stream. It ends when dropped.
pub struct Stream {
    record: Arc<Mutex<Record>>,
    sender: AbortOnDropHandle<()>,
    receivers: Vec<AbortOnDropHandle<()>>,
}

impl Stream {
    /// Sends a datagram of every flow every `pace`, and receives on every socket of `receivers`.
    pub fn start(flows: Vec<Flow>, receivers: Vec<UdpSocket>, pace: Duration) -> Self {
        let record = Arc::new(Mutex::new(Record::new(flows.len())));
        // A late datagram of an earlier stream between the same addresses must not count.
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let stream = u64::try_from(since.as_nanos()).unwrap_or_default();
        let receivers = receivers.into_iter().enumerate().map(|(receiver, socket)| {
            let received = receive(socket, stream, receiver, Arc::clone(&record));
            AbortOnDropHandle::new(tokio::spawn(received))
        });
        let receivers = receivers.collect();
        let sender = tokio::spawn(send(flows, stream, pace, Arc::clone(&record)));
        Self { record, sender: AbortOnDropHandle::new(sender), receivers }
    }

    /// Stops sending; receiving continues.
    pub fn rest(&self) {
        self.sender.abort();
    }

    /// Stops, and closes the sockets before the return: another stream may then use their
    /// addresses.
    pub async fn end(self) {
        for task in self.receivers.into_iter().chain([self.sender]) {
            task.abort();
            let _cancelled = task.await;
        }
    }

    /// The datagrams so far. Neither end makes progress while it is held.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn send(flows: Vec<Flow>, stream: u64, pace: Duration, record: Arc<Mutex<Record>>) {
    for flow in &flows {
        // A new socket receives datagrams only after the runtime has polled it once.
        let _looked_at = flow.from.writable().await;
    }
    let mut tick = tokio::time::interval(pace);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (flow, number) in flows.iter().zip(0..) {
            let sequence = lock(&record).sent(number, Instant::now());
            let datagram = [stream, number as u64, sequence].map(u64::to_be_bytes).concat();
            // Not awaited: a socket that the kernel blocks must not delay the other flows.
            let _refused = flow.from.try_send_to(&datagram, flow.to);
        }
    }
}

async fn receive(socket: UdpSocket, stream: u64, receiver: usize, record: Arc<Mutex<Record>>) {
    let mut datagram = [0; LENGTH];
    loop {
        // An ICMP error of another flow is received here, too.
        let Ok(length) = socket.recv(&mut datagram).await else { continue };
        if let Some([of, flow, number]) = numbers(&datagram[..length])
            && of == stream
        {
            lock(&record).arrived(usize::try_from(flow).unwrap_or(usize::MAX), number, receiver);
        }
    }
}

fn numbers(datagram: &[u8]) -> Option<[u64; 3]> {
    let datagram: &[u8; LENGTH] = datagram.try_into().ok()?;
    let (words, _) = datagram.as_chunks::<8>();
    Some([u64::from_be_bytes(words[0]), u64::from_be_bytes(words[1]), u64::from_be_bytes(words[2])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{NEEDS, netlink::Netlink, netns::Netns},
        traffic::echo::bind_udp,
    };

    const PACE: Duration = Duration::from_millis(2);

    #[tokio::test]
    async fn a_stream_records_the_receiver_of_each_packet() {
        let netns = Netns::new().expect(NEEDS);
        let netlink = Netlink::connect(&netns).unwrap();
        netlink.set_loopback_up().await.unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let bind = |at| netns.run(|| bind_udp(at)).unwrap();
        let to = ["127.0.0.20:5001", "127.0.0.21:5001", "127.0.0.22:5001"].map(at);
        let flows = to.map(|to| Flow { from: bind(at("127.0.0.1:0")), to });
        let receivers = vec![bind(to[0]), bind(to[1])];
        let start = Instant::now();
        let stream = Stream::start(flows.into(), receivers, PACE);
        let end = start + Duration::from_secs(5);
        while stream.record().receivers().iter().flatten().count() < 2 {
            assert!(Instant::now() < end, "{:?}", stream.record());
            tokio::time::sleep(PACE).await;
        }
        stream.rest();
        tokio::time::sleep(PACE * 20).await;
        {
            let record = stream.record();
            assert_eq!(record.receivers(), [Some(0), Some(1), None]);
            let loss = |flow| record.loss(start..end, |number| number == flow);
            assert!(loss(0).sent > 0 && loss(0).lost == 0, "{:?}", loss(0));
            assert!(loss(2).sent > 0 && loss(2).lost == loss(2).sent, "{:?}", loss(2));
        }
        stream.end().await;
        to[..2].iter().for_each(|at| drop(bind(*at)));
    }
}
