// SPDX-License-Identifier: Apache-2.0

//! Connects to the first address of a host that answers, as in RFC 8305.
//!
//! The families alternate, beginning with that of the resolver's first address. The next address is
//! tried 250 ms after the previous one, or at once when that has failed; earlier attempts continue
//! meanwhile.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt};
use rustix::net::sockopt;
use tokio::{
    net::{TcpStream, lookup_host},
    time::sleep,
};

/// Time before the next address is tried as well.
const NEXT_AFTER: Duration = Duration::from_millis(250);
/// Maximum number of addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Idle time after which the kernel probes a connection, time between its probes, and their number.
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(5), 3);
/// Longest time for which sent data may stay unacknowledged, in milliseconds.
const UNACKNOWLEDGED: u32 = 20_000;

/// Connects to `host:port`.
///
/// # Errors
/// That of the resolver, or of the last address tried.
pub(super) async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = race(lookup_host(address).await?, TcpStream::connect).await?;
    probe(&stream)?;
    Ok(stream)
}

/// Lets the kernel end the connection when the other side vanishes. Unlike pings of HTTP/2, no
/// server objects.
fn probe(stream: &TcpStream) -> io::Result<()> {
    let (idle, between, count) = PROBES;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, between)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

async fn race<T, F>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = in_turns(addresses);
    let several = waiting.len() > 1;
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match waiting.pop_front() {
            Some(address) => {
                let attempt = connect(address);
                attempts.push(async move { (address, attempt.await) });
            }
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        tokio::select! {
            Some((address, outcome)) = attempts.next() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) if several => last = io::Error::new(error.kind(), format!("{address}: {error}")),
                Err(error) => last = error,
            },
            () = sleep(NEXT_AFTER), if !waiting.is_empty() => {}
        }
    }
}

/// The addresses, alternating between the families.
fn in_turns(addresses: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addresses = addresses.into_iter().take(MAX_ADDRESSES).peekable();
    let first_is_v6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.partition(|address| address.is_ipv6() == first_is_v6);
    let mut turns = VecDeque::new();
    while !one.is_empty() || !other.is_empty() {
        turns.extend(one.pop_front().into_iter().chain(other.pop_front()));
    }
    turns
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let resolved = addresses(&["[fd00::1]:1", "[fd00::2]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let expected = addresses(&["[fd00::1]:1", "10.0.0.1:1", "[fd00::2]:1", "10.0.0.2:1", "10.0.0.3:1"]);
        assert_eq!(in_turns(resolved), expected);
        let many = (0..1000).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        assert_eq!(in_turns(many).len(), MAX_ADDRESSES);
    }

    /// Races addresses whose first byte selects their behaviour: 1 answers at once, 2 is refused, 3
    /// is a black hole, 4 answers late.
    async fn raced(texts: &[&str]) -> (io::Result<SocketAddr>, Vec<(u64, SocketAddr)>) {
        let start = Instant::now();
        let tried = Mutex::new(Vec::new());
        let outcome = race(addresses(texts), |address| {
            tried.lock().unwrap().push((start.elapsed().as_millis() as u64, address));
            async move {
                match address.to_string().as_bytes()[0] {
                    b'1' => Ok(address),
                    b'2' => Err(io::ErrorKind::ConnectionRefused.into()),
                    b'4' => {
                        sleep(Duration::from_millis(300)).await;
                        Ok(address)
                    }
                    _ => std::future::pending().await,
                }
            }
        });
        (outcome.await, tried.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_costs_a_quarter_of_a_second() {
        let (outcome, tried) = raced(&["3.0.0.1:1", "3.0.0.2:1", "1.0.0.1:1", "1.0.0.2:1"]).await;
        assert_eq!(outcome.unwrap().to_string(), "1.0.0.1:1");
        let times: Vec<_> = tried.iter().map(|(at, _)| at / 10 * 10).collect();
        assert_eq!(times, [0, 250, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_costs_nothing_and_a_late_answer_counts() {
        let (outcome, tried) = raced(&["2.0.0.1:1", "4.0.0.1:1", "3.0.0.1:1"]).await;
        assert_eq!(outcome.unwrap().to_string(), "4.0.0.1:1");
        assert_eq!(tried.iter().map(|(at, _)| at / 10 * 10).collect::<Vec<_>>(), [0, 0, 250]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_refusal_is_named_with_its_address() {
        let (outcome, _) = raced(&["2.0.0.1:1", "2.0.0.2:1"]).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("2.0.0.2:1: "), "{error}");
        assert!(raced(&[]).await.0.unwrap_err().to_string().contains("no address"));
    }

    #[tokio::test]
    async fn a_connection_is_probed_by_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect(&listener.local_addr().unwrap().to_string()).await.unwrap();
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), PROBES.0);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNACKNOWLEDGED);
    }
}
