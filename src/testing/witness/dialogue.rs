// SPDX-License-Identifier: Apache-2.0

//! Sends a request to the kernel and reads the answers, on a socket for this request alone.

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
        NetlinkMessage, NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use rustix::io::Errno;

/// Flags of a request that creates an object.
pub(super) const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
pub(super) const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// All objects of a kind. A dump that a change has interrupted is repeated.
pub(super) fn dump(request: &RouteNetlinkMessage) -> Vec<RouteNetlinkMessage> {
    loop {
        match ask(request, NLM_F_DUMP) {
            Ok(answers) => return answers,
            Err(Errno::INTR) => {}
            Err(errno) => panic!("{request:?}: {errno}"),
        }
    }
}

/// Makes a change.
pub(super) fn change(request: &RouteNetlinkMessage, flags: u16) {
    ask(request, flags).unwrap_or_else(|errno| panic!("{request:?}: {errno}"));
}

/// All answers to a request, or the error by which the kernel refuses it; `INTR` if the answers are
/// not a consistent snapshot.
pub(super) fn ask(request: &RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Errno> {
    let mut message = NetlinkMessage::from(request.clone());
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).unwrap();
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().unwrap();
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let answer = NetlinkMessage::deserialize(rest).unwrap();
            let length = usize::try_from(answer.header.length).unwrap().next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            if answer.header.flags & NLM_F_DUMP_INTR != 0 && flags == NLM_F_DUMP {
                return Err(Errno::INTR);
            }
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) => match error.code {
                    None => return Ok(answers),
                    Some(code) => return Err(Errno::from_raw_os_error(-code.get())),
                },
                other => panic!("{request:?}: {other:?}"),
            }
        }
    }
}
