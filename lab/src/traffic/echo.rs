// SPDX-License-Identifier: Apache-2.0
//! Answers UDP and TCP on the VIPs of a target, with the target's name.
//!
//! A socket is bound to each VIP, also before any link carries it, and so answers from the address
//! of the question.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures::StreamExt;
use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::network::netns::Netns;
use nsm::testing::accept;

/// Port of the echo.
pub const PORT: u16 = 5000;
/// TCP connections answered at once; further ones wait in the backlog.
const CONNECTIONS: usize = 64;
/// Timeout of a TCP connection's question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a question, in bytes.
const MAX_QUESTION: usize = 512;

/// A running echo. It ends when dropped.
pub struct Echo {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Echo {
    /// Answers on `addresses` in a namespace: `<name> <question>`.
    ///
    /// # Errors
    /// A socket cannot be bound.
    pub fn start(netns: &Netns, name: &str, addresses: &[IpAddr]) -> io::Result<Self> {
        let mut tasks = Vec::new();
        for address in addresses {
            let at = SocketAddr::new(*address, PORT);
            let (udp, tcp) = netns.run(|| Ok((bind_udp(at)?, bind_tcp(at)?)))?;
            tasks.push(AbortOnDropHandle::new(tokio::spawn(answer_udp(udp, name.to_owned()))));
            tasks.push(AbortOnDropHandle::new(tokio::spawn(answer_tcp(tcp, name.to_owned()))));
        }
        Ok(Self { _tasks: tasks })
    }
}

/// A UDP socket bound to an address that need not be on any link.
///
/// # Errors
/// The address is taken.
pub fn bind_udp(at: SocketAddr) -> io::Result<UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    free_bind(&socket, at)?;
    bind(&socket, &at)?;
    UdpSocket::from_std(socket.into())
}

fn bind_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    free_bind(&socket, at)?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(128)
}

fn free_bind(socket: impl std::os::fd::AsFd, at: SocketAddr) -> io::Result<()> {
    match at.is_ipv4() {
        true => Ok(set_ip_freebind(socket, true)?),
        false => Ok(set_ipv6_freebind(socket, true)?),
    }
}

async fn answer_udp(socket: UdpSocket, name: String) {
    let mut question = [0; MAX_QUESTION];
    loop {
        // An ICMP error of an earlier answer is returned here; it does not concern the next
        // question.
        let Ok((length, from)) = socket.recv_from(&mut question).await else { continue };
        let answer = [name.as_bytes(), b" ", &question[..length]].concat();
        let _ = socket.send_to(&answer, from).await;
    }
}

async fn answer_tcp(listener: TcpListener, name: String) {
    let mut connections = JoinSet::new();
    let mut accepted = pin!(accept::tcp(listener));
    while let Some(Ok(stream)) = accepted.next().await {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let name = name.clone();
        connections.spawn(async move {
            let _ = tokio::time::timeout(QUESTION_TIMEOUT, answer_stream(stream, &name)).await;
        });
    }
}

async fn answer_stream(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let mut question = [0; MAX_QUESTION];
    let length = stream.read(&mut question).await?;
    stream.write_all(&[name.as_bytes(), b" ", &question[..length]].concat()).await?;
    stream.shutdown().await
}
