// SPDX-License-Identifier: Apache-2.0
//! A sender that uses a VIP as its source and does not wait for answers: the traffic that the leak
//! counter must not receive.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio_util::task::AbortOnDropHandle;

use super::echo::{PORT, bind_udp};
use crate::network::netns::Netns;

/// A running sender. It ends when dropped.
pub struct Talk {
    sent: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Talk {
    /// Sends from `vip` to each of `to` in turn, one datagram every `pace`.
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

    /// Number of datagrams that the kernel accepted.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::{
        network::{NEEDS, netlink::Netlink},
        traffic::leak::LeakCounter,
    };

    const PACE: Duration = Duration::from_millis(2);

    #[tokio::test]
    async fn the_leak_counter_counts_passed_packets() {
        let netns = Netns::new().expect(NEEDS);
        let netlink = Netlink::connect(&netns).unwrap();
        netlink.set_loopback_up().await.unwrap();
        let vip = "127.0.0.20".parse().unwrap();
        let client = "127.0.0.1".parse().unwrap();
        let leak = LeakCounter::start(&netns, vec!["127.0.0.20/32".parse().unwrap()]).unwrap();
        assert_eq!(leak.count(), 0);
        let talk = Talk::start(&netns, vip, vec![client], PACE).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while talk.sent() == 0 || leak.count() == 0 {
            assert!(Instant::now() < end, "sent {}, counted {}", talk.sent(), leak.count());
            tokio::time::sleep(PACE).await;
        }
    }
}
