// SPDX-License-Identifier: Apache-2.0
//! ICMP echo requests, as `ping` sends them, and the number of their replies.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::network::netns::Netns;

/// Type and code of a request, as one number of 16 bits.
const ECHO_REQUEST: u16 = 0x0800;
/// Type of a reply.
const ECHO_REPLY: u8 = 0;
/// Identifier of all requests: a namespace of the lab has one sender at a time.
const IDENTIFIER: u16 = 1;

/// Sends `count` echo requests from a namespace, each after the reply to the one before. Returns
/// the number of replies; stops at the first that does not come `within` this time.
///
/// # Errors
/// The kernel refuses the socket or a request.
pub fn ping(from: &Netns, to: Ipv4Addr, count: u16, within: Duration) -> io::Result<u16> {
    from.run(|| {
        let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(within))?;
        for number in 1..=count {
            sendto(&socket, &request(number), SendFlags::empty(), &SocketAddrV4::new(to, 0))?;
            let mut packet = [0; 256];
            loop {
                match recv(&socket, &mut packet, RecvFlags::empty()) {
                    Ok((_, length)) if answers(packet.get(..length).unwrap_or_default(), to, number) => break,
                    Ok(_) => {}
                    Err(rustix::io::Errno::AGAIN) => return Ok(number - 1),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(count)
    })
}

/// Type, code, checksum, identifier, sequence number.
fn request(number: u16) -> [u8; 8] {
    let sum = u32::from(ECHO_REQUEST) + u32::from(IDENTIFIER) + u32::from(number);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
    let words = [ECHO_REQUEST, checksum, IDENTIFIER, number].map(u16::to_be_bytes);
    let mut request = [0; 8];
    request.copy_from_slice(words.as_flattened());
    request
}

/// Whether a packet, with its IP header, is the reply of `by` to a request.
fn answers(packet: &[u8], by: Ipv4Addr, number: u16) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    let Some(reply) = packet.get(header..header + 8) else { return false };
    packet.get(12..16) == Some(&by.octets()) && reply[0] == ECHO_REPLY && reply[4..] == request(number)[4..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{NEEDS, netlink::Netlink};

    #[tokio::test]
    async fn the_kernel_answers_each_request() {
        let netns = Netns::new().expect(NEEDS);
        Netlink::connect(&netns).unwrap().set_loopback_up().await.unwrap();
        let limit = Duration::from_secs(5);
        assert_eq!(ping(&netns, Ipv4Addr::LOCALHOST, 3, limit).unwrap(), 3);
        assert!(ping(&netns, Ipv4Addr::new(192, 0, 2, 1), 1, limit).is_err(), "no route");
    }

    #[test]
    fn checksums_are_those_of_the_protocol() {
        for number in [1, 2, 0xf7fe, u16::MAX] {
            let words = request(number)
                .as_chunks::<2>()
                .0
                .iter()
                .map(|word| u32::from(u16::from_be_bytes(*word)))
                .sum::<u32>();
            assert_eq!((words & 0xffff) + (words >> 16), 0xffff, "{number}");
        }
    }
}
