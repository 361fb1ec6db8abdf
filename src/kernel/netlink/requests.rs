// SPDX-License-Identifier: Apache-2.0

//! Ask the kernel, and understand what it answers: errors with their text, and dumps that were disturbed.

use std::{io, time::Duration};

use futures::StreamExt;
use rtnetlink::{
    Handle,
    packet_core::{ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::task::JoinHandle;

use crate::kernel::Refusal;

/// Longest wait for one answer; the kernel answers while the request is being sent.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a dump is asked for again because the kernel changed while it was made.
const DISTURBED: usize = 3;
/// Flag of a dump that does not show one moment (`NLM_F_DUMP_INTR`).
const INTERRUPTED: u16 = 0x10;

/// A connection for requests. Its task ends with it.
pub(super) struct Requests {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, handle, _) = rtnetlink::new_connection()?;
        let socket = connection.socket_mut();
        use rtnetlink::sys::AsyncSocket;
        let socket = socket.socket_mut();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// All messages of a dump.
    pub(super) async fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let mut disturbed = 0;
        loop {
            let mut request = NetlinkMessage::from(message.clone());
            request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
            let (answers, interrupted) = self.ask(request).await?;
            if !interrupted || disturbed == DISTURBED {
                return Ok(answers);
            }
            disturbed += 1;
        }
    }

    /// Make a change and wait for the acknowledgement.
    pub(super) async fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.ask(request).await.map(drop)
    }

    /// Everything that is answered, and whether the kernel says that it changed meanwhile.
    async fn ask(
        &mut self,
        request: NetlinkMessage<RouteNetlinkMessage>,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), Refusal> {
        let mut stream = self.handle.request(request).map_err(Refusal::broken)?;
        let (mut answers, mut interrupted) = (Vec::new(), false);
        let collect = async {
            while let Some(answer) = stream.next().await {
                interrupted |= answer.header.flags & INTERRUPTED != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(refusal(&error)),
                    NetlinkPayload::Overrun(_) => return Err(Refusal::broken("answers were lost")),
                    _ => {}
                }
            }
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, collect).await {
            Ok(Ok(())) if self.connection.is_finished() => Err(Refusal::broken("the connection ended")),
            Ok(result) => result.map(|()| (answers, interrupted)),
            Err(_) => Err(Refusal::broken(format_args!("none within {PATIENCE:?}"))),
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn refusal(error: &ErrorMessage) -> Refusal {
    Refusal { errno: error.raw_code().saturating_abs(), text: extended(&error.header) }
}

/// The text of an extended acknowledgement: attribute 1 among those after the 16 bytes of the request's header.
fn extended(bytes: &[u8]) -> Option<String> {
    const TEXT: u16 = 1;
    let mut rest = bytes.get(16..)?;
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & 0x3fff == TEXT {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_text_is_found_among_other_attributes_and_rubbish_is_no_text() {
        let header = vec![0; 16];
        let whole =
            [header.clone(), attribute(2, &[0; 4]), attribute(1, b"Nexthop has invalid gateway\0")].concat();
        assert_eq!(extended(&whole).as_deref(), Some("Nexthop has invalid gateway"));
        for cut in 0..whole.len() - 30 {
            assert_eq!(extended(&whole[..cut]), None, "{cut} bytes");
        }
        assert_eq!(
            extended(&[header, vec![0; 64]].concat()),
            None,
            "an attribute without a length ends the search"
        );
    }
}
