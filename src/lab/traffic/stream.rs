// SPDX-License-Identifier: Apache-2.0
//! Keep traffic flowing while something changes, and count what was lost.
//!
//! [`Stream`] asks a VIP without a pause and knows how many answers did not come. [`Talk`] sends from a VIP without waiting for
//! anything, whatever the routes are: what the leak check needs on its other side.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::echo::{PORT, bind_udp};
use crate::lab::network::netns::Netns;

/// How long the last answers may take.
const GRACE: Duration = Duration::from_millis(500);

/// Traffic of one client to one VIP, over several flows.
pub struct Stream {
    stop: CancellationToken,
    flows: Vec<AbortOnDropHandle<Sent>>,
}

/// What a stream saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams sent.
    pub sent: u64,
    /// Answers received from the VIP.
    pub answered: u64,
}

impl Sent {
    /// Datagrams without an answer.
    pub fn lost(self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }
}

impl Stream {
    /// Send from `source` to `vip` over so many flows, each a datagram every `pace`.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub fn start(
        netns: &Netns,
        source: IpAddr,
        vip: IpAddr,
        flows: usize,
        pace: Duration,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let start = |_| {
            let socket = netns.run(|| bind_udp(SocketAddr::new(source, 0)))?;
            let flow = flow(socket, SocketAddr::new(vip, PORT), pace, stop.clone());
            Ok(AbortOnDropHandle::new(tokio::spawn(flow)))
        };
        let flows = (0..flows).map(start).collect::<io::Result<_>>()?;
        Ok(Self { stop, flows })
    }

    /// Stop sending, wait for the last answers, and report.
    pub async fn finish(self) -> Sent {
        self.stop.cancel();
        let mut all = Sent::default();
        for flow in self.flows {
            let one = flow.await.unwrap_or_default();
            all = Sent { sent: all.sent + one.sent, answered: all.answered + one.answered };
        }
        all
    }
}

async fn flow(socket: UdpSocket, vip: SocketAddr, pace: Duration, stop: CancellationToken) -> Sent {
    let mut seen = Sent::default();
    let mut tick = tokio::time::interval(pace);
    let mut last = None;
    let mut answer = [0; 512];
    loop {
        let end = last.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = stop.cancelled(), if last.is_none() => last = Some(Instant::now() + GRACE),
            _ = tick.tick(), if last.is_none() => {
                seen.sent += 1; // one that the kernel refuses to send is as lost as any other
                let _ = socket.send_to(&seen.sent.to_be_bytes(), vip).await;
            }
            received = socket.recv_from(&mut answer) => {
                seen.answered += u64::from(received.is_ok_and(|(_, from)| from == vip));
            }
            () = tokio::time::sleep_until(end) => return seen,
        }
        if last.is_some() && seen.answered == seen.sent {
            return seen;
        }
    }
}

/// A sender that uses a VIP as its source and listens to nobody. It ends when dropped.
pub struct Talk {
    sent: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Talk {
    /// Send from `vip` to each of `to` in turn, one datagram every `pace`.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub fn start(netns: &Netns, vip: IpAddr, to: Vec<IpAddr>, pace: Duration) -> io::Result<Self> {
        let socket = netns.run(|| bind_udp(SocketAddr::new(vip, 0)))?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(pace);
            for to in to.iter().cycle() {
                tick.tick().await;
                let done = socket.send_to(b"leak?", SocketAddr::new(*to, PORT)).await;
                count.fetch_add(u64::from(done.is_ok()), Relaxed);
            }
        });
        Ok(Self { sent, _task: AbortOnDropHandle::new(task) })
    }

    /// Datagrams that the kernel took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{
        network::{NEEDS, netlink::Netlink},
        traffic::{echo::Echo, leak::LeakCounter},
    };

    const PACE: Duration = Duration::from_millis(2);

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !holds() {
            assert!(Instant::now() < end, "not within 5 s: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_stream_counts_what_is_lost_and_the_leak_counter_what_passes() {
        let netns = Netns::new().expect(NEEDS);
        let netlink = Netlink::connect(&netns).unwrap();
        netlink.set_loopback_up().await.unwrap();
        let (vip, client) = ("127.0.0.20".parse().unwrap(), "127.0.0.1".parse().unwrap());

        let echo = Echo::start(&netns, "t1", &[vip]).unwrap();
        let stream = Stream::start(&netns, client, vip, 3, PACE).unwrap();
        tokio::time::sleep(PACE * 20).await;
        let seen = stream.finish().await;
        assert!(seen.sent > 0 && seen.lost() == 0, "{seen:?}");

        drop(echo);
        let stream = Stream::start(&netns, client, vip, 1, PACE).unwrap();
        tokio::time::sleep(PACE * 10).await;
        let seen = stream.finish().await;
        assert!(seen.sent > 0 && seen.lost() == seen.sent, "{seen:?}");

        let leak = LeakCounter::start(&netns, vec!["127.0.0.20/32".parse().unwrap()]).unwrap();
        assert_eq!(leak.count(), 0);
        let talk = Talk::start(&netns, vip, vec![client], PACE).unwrap();
        until("a packet is sent and seen", || talk.sent() > 0 && leak.count() > 0).await;
    }
}
