// SPDX-License-Identifier: Apache-2.0
//! Asks a VIP over many flows, and records which target answers from which address.
//!
//! Each flow has a different source port, so that the hashes on the path spread them over load
//! balancers and targets.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

use super::echo::PORT;
use crate::network::netns::Netns;

/// Timeout of an answer. A lost packet is not sent again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of concurrent flows: fewer than any queue on the path holds.
const AT_ONCE: usize = 32;

/// Transport of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// One connection with one question.
    Tcp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        })
    }
}

/// The answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Questions sent.
    pub sent: usize,
    /// Right answers from the VIP itself.
    pub answered: usize,
    /// Answers from another address than that of the question.
    pub wrong_source: usize,
    /// Answers of each target.
    pub by: BTreeMap<String, usize>,
}

impl Answers {
    /// Whether every question was answered by the VIP, and each of `targets` had a share.
    pub fn complete(&self, targets: usize) -> bool {
        self.sent > 0 && self.answered == self.sent && self.wrong_source == 0 && self.by.len() == targets
    }

    /// Adds the answers of other flows.
    pub fn merge(&mut self, other: Answers) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.wrong_source += other.wrong_source;
        for (name, count) in other.by {
            *self.by.entry(name).or_default() += count;
        }
    }
}

enum Answer {
    By(String),
    WrongSource,
    None,
}

/// Asks `vip` from `source` over this many flows.
pub async fn ask(netns: &Netns, source: IpAddr, vip: IpAddr, transport: Transport, flows: usize) -> Answers {
    let mut answers = Answers::default();
    let vip = SocketAddr::new(vip, PORT);
    let numbers: Vec<usize> = (0..flows).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let batch = numbers.iter().map(|number| async move {
            let question = format!("{transport} {vip} {number}");
            let asked = async {
                match transport {
                    Transport::Udp => ask_udp(netns, source, vip, &question).await,
                    Transport::Tcp => ask_tcp(netns, source, vip, &question).await,
                }
            };
            timeout(ANSWER_TIMEOUT, asked).await.ok().and_then(Result::ok).unwrap_or(Answer::None)
        });
        for answer in join_all(batch).await {
            answers.sent += 1;
            match answer {
                Answer::By(name) => {
                    answers.answered += 1;
                    *answers.by.entry(name).or_default() += 1;
                }
                Answer::WrongSource => answers.wrong_source += 1,
                Answer::None => {}
            }
        }
    }
    answers
}

/// The name before the question, if the rest is the question.
fn name_in(answer: &[u8], question: &str) -> Answer {
    let text = std::str::from_utf8(answer).ok();
    match text.and_then(|text| text.split_once(' ')) {
        Some((name, rest)) if rest == question => Answer::By(name.to_owned()),
        _ => Answer::None,
    }
}

async fn ask_udp(netns: &Netns, source: IpAddr, vip: SocketAddr, question: &str) -> io::Result<Answer> {
    let socket = netns.run(|| {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(source, 0))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    })?;
    socket.send_to(question.as_bytes(), vip).await?;
    let mut answer = [0; 512];
    let (length, from) = socket.recv_from(&mut answer).await?;
    Ok(if from == vip { name_in(&answer[..length], question) } else { Answer::WrongSource })
}

async fn ask_tcp(netns: &Netns, source: IpAddr, vip: SocketAddr, question: &str) -> io::Result<Answer> {
    let socket = netns.run(|| {
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        Ok(socket)
    })?;
    let mut stream = socket.connect(vip).await?;
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(512).read_to_end(&mut answer).await?;
    Ok(name_in(&answer, question))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        network::{NEEDS, netlink::Netlink},
        traffic::echo::Echo,
    };

    #[tokio::test]
    async fn an_echo_answers_from_the_address_of_the_question() {
        let netns = Netns::new().expect(NEEDS);
        let netlink = Netlink::connect(&netns).unwrap();
        netlink.set_loopback_up().await.unwrap();
        let lo = netlink.index("lo").await.unwrap();
        let vips = ["20.0.0.1", "2001:db8:20::1"].map(|vip| vip.parse::<IpAddr>().unwrap());
        let echo = Echo::start(&netns, "t1", &vips).unwrap();
        netlink.set_addresses(lo, &vips.map(ipnet::IpNet::from)).await.unwrap();
        for (vip, source) in vips.into_iter().zip(["127.0.0.1", "::1"]) {
            for transport in [Transport::Udp, Transport::Tcp] {
                let answers = ask(&netns, source.parse().unwrap(), vip, transport, 40).await;
                assert!(answers.complete(1), "{transport} {vip}: {answers:?}");
                assert_eq!(answers.by["t1"], 40);
            }
        }
        drop(echo);
        let answers = ask(&netns, "127.0.0.1".parse().unwrap(), vips[0], Transport::Udp, 1).await;
        assert_eq!((answers.sent, answers.answered), (1, 0));
        assert!(!answers.complete(0));
    }
}
