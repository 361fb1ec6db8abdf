// SPDX-License-Identifier: Apache-2.0

use futures::FutureExt;
use tokio::time::advance;

use super::*;

const S: Duration = Duration::from_secs(1);

fn room(connections: usize) -> Arc<Room> {
    Room::new(Bounds { own: 2, connections, uncalled: 30 * S, idle: Some(60 * S) })
}

/// Enters a room in which no connection has to leave first.
fn enter(room: &Arc<Room>, process: i32) -> Seat {
    room.enter(PeerKey::Process(process), false).now_or_never().unwrap().unwrap().0
}

/// Lets connections of two peers in, each with the activity of its letter (`n`othing, `i`dle,
/// `c`alls). Returns which one is displaced by another of `newcomer`.
async fn displaced(peers: [i32; 4], activity: &str, newcomer: i32) -> Option<usize> {
    let room = room(4);
    let mut seats = Vec::new();
    let mut calls = Vec::new();
    for (peer, letter) in peers.into_iter().zip(activity.chars()) {
        let seat = enter(&room, peer);
        match letter {
            'c' => calls.push(seat.calls().begin()),
            'i' => drop(seat.calls().begin()),
            _ => {}
        }
        seats.push(seat);
        advance(S).await;
    }
    let mut entering = Box::pin(room.enter(PeerKey::Process(newcomer), false));
    if let Some(entered) = entering.as_mut().now_or_never() {
        assert!(entered.is_err(), "somebody must leave first");
        return None;
    }
    let unwanted = seats.iter_mut().map(|seat| seat.unwanted().now_or_never().is_some());
    let unwanted: Vec<_> = unwanted.collect();
    let at = unwanted.iter().position(|unwanted| *unwanted).unwrap();
    assert_eq!(unwanted.iter().filter(|unwanted| **unwanted).count(), 1);
    assert!(entering.as_mut().now_or_never().is_none(), "it waits for the other to leave");
    drop(seats.remove(at));
    assert!(entering.now_or_never().unwrap().is_ok());
    Some(at)
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_displaces_by_the_table() {
    #[rustfmt::skip]
    let table = [
        // Of the peer with the most: without a call, the newest of them.
        ([1, 1, 1, 2], "nnnn", 3, Some(2)),
        ([1, 1, 1, 2], "nnin", 3, Some(1)),
        // Then the one that is idle for the longest, then the newest with calls.
        ([1, 1, 1, 2], "cicn", 3, Some(1)),
        ([1, 1, 2, 1], "iicn", 3, Some(3)),
        ([1, 1, 1, 2], "cccn", 3, Some(2)),
        // The peer with the most displaces its own, and no call.
        ([1, 1, 1, 2], "ciin", 1, Some(1)),
        ([1, 1, 1, 2], "cccn", 1, None),
        // Peers with as many displace their own; one with fewer displaces no call of one that has
        // one more.
        ([1, 1, 2, 2], "iiii", 2, Some(2)),
        ([1, 2, 3, 4], "cccc", 5, None),
        ([1, 2, 3, 4], "ccic", 5, Some(2)),
    ];
    for (peers, activity, newcomer, expected) in table {
        assert_eq!(displaced(peers, activity, newcomer).await, expected, "{peers:?} {activity} {newcomer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_nothing_is_unwanted_in_time() {
    let room = room(4);
    let start = Instant::now();
    enter(&room, 1).unwanted().await;
    assert_eq!(start.elapsed(), 30 * S, "without a call");

    let mut seat = enter(&room, 1);
    let calling = seat.calls().begin();
    let another = seat.calls().begin();
    assert!(tokio::time::timeout(600 * S, seat.unwanted()).await.is_err(), "with calls");
    drop(calling);
    assert!(tokio::time::timeout(600 * S, seat.unwanted()).await.is_err(), "with a call");
    drop(another);
    let start = Instant::now();
    seat.unwanted().await;
    assert_eq!(start.elapsed(), 60 * S, "after its calls");
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_limit_a_connection_that_has_called_stays() {
    let room = Room::new(Bounds { own: 2, connections: 1, uncalled: 30 * S, idle: None });
    let mut seat = enter(&room, 1);
    drop(seat.calls().begin());
    assert!(tokio::time::timeout(86_400 * S, seat.unwanted()).await.is_err());
}

#[test]
fn the_reserve_of_this_process_is_beside_the_others_and_bounded() {
    let room = room(1);
    let _stranger = enter(&room, 1);
    let own = || room.enter(PeerKey::Process(2), true).now_or_never();
    let seats: Vec<_> = (0..2).map(|_| own().unwrap().unwrap().0).collect();
    assert_eq!(room.len(), 3);
    assert!(own().is_none(), "one more is as any other: it waits for the stranger to leave");
    drop(seats);
    assert!(own().unwrap().is_ok());
}

#[test]
fn a_refusal_names_the_peer_its_connections_and_the_limit() {
    let room = room(2);
    let seats = [enter(&room, 7), enter(&room, 7)];
    let _calls = seats.each_ref().map(|seat| seat.calls().begin());
    let full = room.enter(PeerKey::Process(7), false).now_or_never().unwrap().unwrap_err();
    assert_eq!(full.to_string(), "process 7 has 2 of 2 connections, all of them with calls in progress");
}
