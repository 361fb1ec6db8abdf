// SPDX-License-Identifier: Apache-2.0

use std::{
    future::poll_fn,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
};

use tokio::time::advance;

use super::*;
use crate::transport::listen::{Bounds, room::Room};

const MANY: usize = 4;

/// Newcomers without TLS, and the peers' ends of their connections.
struct Crowd {
    newcomers: Newcomers,
    peers: Vec<UnixStream>,
}

impl Crowd {
    fn new() -> Self {
        let bounds = Bounds { own: 2, connections: 100, uncalled: HANDSHAKE_TIMEOUT, idle: None };
        let handshakes = Handshakes { identity: None, room: Room::new(bounds), descriptors: false };
        Self { newcomers: Newcomers::new(handshakes, MANY), peers: Vec::new() }
    }

    fn arrive(&mut self, pid: i32) -> Option<Rejected> {
        self.arrive_with(pid, &[])
    }

    /// A peer that has sent the first byte of a handshake, and no more.
    fn arrive_speaking(&mut self) -> Option<Rejected> {
        self.arrive_with(0, &[22])
    }

    fn arrive_with(&mut self, pid: i32, bytes: &[u8]) -> Option<Rejected> {
        let (peer, ours) = tokio::net::UnixStream::pair().unwrap();
        let mut peer = peer.into_std().unwrap();
        peer.write_all(bytes).unwrap();
        self.peers.push(peer);
        self.newcomers.push(Incoming { socket: ours.into(), pid })
    }

    /// Whether each connection is open, in the order of arrival.
    fn open(&self) -> Vec<bool> {
        self.peers
            .iter()
            .map(|mut peer| match peer.read(&mut [0]) {
                Err(error) => error.kind() == ErrorKind::WouldBlock,
                Ok(_) => false,
            })
            .collect()
    }

    async fn next(&mut self) -> HandshakeResult {
        poll_fn(|cx| self.newcomers.poll(cx)).await
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_of_those_that_have_been_silent_goes() {
    let mut crowd = Crowd::new();
    for _ in 0..MANY {
        assert!(crowd.arrive(0).is_none());
    }
    advance(GRACE).await;
    assert!(matches!(crowd.arrive(0), Some(Rejected::Silent(MANY))));
    assert_eq!(crowd.open(), [true, true, true, false, true]);
    assert!(matches!(crowd.arrive(0), Some(Rejected::Silent(MANY))));
    assert_eq!(crowd.open(), [true, true, false, false, true, true], "the fifth has its grace");
}

#[tokio::test(start_paused = true)]
async fn in_a_flood_the_oldest_silent_one_goes() {
    let mut crowd = Crowd::new();
    for _ in 0..=MANY {
        crowd.arrive(0);
    }
    assert_eq!(crowd.open(), [false, true, true, true, true]);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_spoken_meanwhile_stays() {
    let mut crowd = Crowd::new();
    for _ in 0..MANY {
        crowd.arrive(0);
    }
    advance(GRACE).await;
    crowd.peers[3].write_all(&[22]).unwrap();
    crowd.arrive(0);
    assert_eq!(crowd.open(), [true, true, false, true, true]);
    assert!(crowd.next().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_one_is_closed_at_the_end_of_its_time() {
    let mut crowd = Crowd::new();
    crowd.arrive(0);
    let start = Instant::now();
    assert!(matches!(crowd.next().await, Err(Rejected::Slow)));
    assert_eq!((start.elapsed(), crowd.open()), (HANDSHAKE_TIMEOUT, vec![false]));
}

#[tokio::test(start_paused = true)]
async fn this_process_has_a_reserve_that_is_bounded() {
    let mut crowd = Crowd::new();
    let own = std::process::id().cast_signed();
    for _ in 0..2 {
        crowd.arrive(own);
    }
    for _ in 0..MANY {
        assert!(crowd.arrive(0).is_none());
    }
    advance(GRACE).await;
    assert!(crowd.arrive(own).is_some(), "the reserve is used up");
    let open = crowd.open();
    assert!(open[..2].iter().all(|open| *open), "{open:?}");
    assert_eq!(open[2..], [true, true, true, false, true]);
}

#[tokio::test]
async fn a_handshake_that_takes_the_longest_goes_if_none_is_silent() {
    let authority = crate::testing::Authority::new("a.test");
    let mut crowd = Crowd::new();
    crowd.newcomers.handshakes.identity = Some(authority.identity("nse"));
    for _ in 0..MANY {
        crowd.arrive_speaking();
    }
    assert!(futures::poll!(std::pin::pin!(crowd.next())).is_pending());
    assert!(matches!(crowd.arrive(0), Some(Rejected::Slowest(MANY))));
    tokio::task::yield_now().await;
    assert_eq!(crowd.open(), [false, true, true, true, true]);
}
