// SPDX-License-Identifier: Apache-2.0

//! Collects the kernel's answers to one request: objects, an error with its text, and whether the
//! answers form a consistent snapshot.

use rtnetlink::{
    packet_core::{
        DoneMessage, ErrorMessage, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
};

use crate::kernel::Refusal;

/// Length of a netlink message's header.
const HEADER: usize = 16;

/// The answers to one request.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) objects: Vec<RouteNetlinkMessage>,
    /// The kernel changed while the dump was sent: objects may be missing or listed twice.
    pub(super) interrupted: bool,
}

impl Answers {
    /// Adds one answer. The interruption flag and the error of a dump may both arrive only with its
    /// last message.
    ///
    /// # Errors
    /// The kernel refuses the request, or answers were lost.
    pub(super) fn take(&mut self, answer: NetlinkMessage<RouteNetlinkMessage>) -> Result<(), Refusal> {
        self.interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
        match answer.payload {
            NetlinkPayload::InnerMessage(object) => self.objects.push(object),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(refused(&error, answer.header.flags));
            }
            NetlinkPayload::Done(done) if done.code != 0 => return Err(ended(&done)),
            NetlinkPayload::Overrun(_) => return Err(Refusal::broken("answers were lost")),
            _ => {}
        }
        Ok(())
    }
}

/// The error that refuses a request. Its attributes follow the copy of the request; a capped answer
/// copies only the header.
fn refused(error: &ErrorMessage, flags: u16) -> Refusal {
    let request = match error.header.get(..4) {
        Some([a, b, c, d]) if flags & NLM_F_CAPPED == 0 => u32::from_ne_bytes([*a, *b, *c, *d]) as usize,
        _ => HEADER,
    };
    let attributes = error.header.get(request.next_multiple_of(4)..).filter(|_| flags & NLM_F_ACK_TLVS != 0);
    Refusal { errno: error.raw_code().saturating_abs(), text: attributes.and_then(text) }
}

/// The error that ends a dump.
fn ended(done: &DoneMessage) -> Refusal {
    Refusal { errno: done.code.saturating_abs(), text: text(&done.extended_ack) }
}

/// The text among the attributes of an extended acknowledgement.
fn text(attributes: &[u8]) -> Option<String> {
    const TEXT: u16 = 1;
    let mut rest = attributes;
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
    use std::num::NonZeroI32;

    use rtnetlink::packet_core::{NLM_F_MULTIPART, NetlinkHeader};

    use super::*;

    const PROBLEM: &[u8] = b"Nexthop has invalid gateway\0";

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn answer(
        flags: u16,
        payload: NetlinkPayload<RouteNetlinkMessage>,
    ) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        NetlinkMessage::new(header, payload)
    }

    fn error(flags: u16, request: &[u8], attributes: &[u8]) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut message = ErrorMessage::default();
        message.code = NonZeroI32::new(-22);
        let mut header = vec![0; HEADER];
        header[..4].copy_from_slice(&((HEADER + request.len()) as u32).to_ne_bytes());
        message.header = [&header, request, attributes].concat();
        answer(flags, NetlinkPayload::Error(message))
    }

    fn done(flags: u16, code: i32, extended_ack: Vec<u8>) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut message = DoneMessage::default();
        message.code = code;
        message.extended_ack = extended_ack;
        answer(flags | NLM_F_MULTIPART, NetlinkPayload::Done(message))
    }

    #[test]
    fn the_text_of_an_error_is_found_in_capped_answers_too() {
        let attributes = [attribute(2, &[0; 4]), attribute(1, PROBLEM)].concat();
        // A request whose bytes look like attributes.
        let request = [attribute(1, b"not this\0"), vec![1]].concat();
        let padded = [&request[..], &[0; 3]].concat();
        let text = Some("Nexthop has invalid gateway".to_owned());
        let table = [
            (error(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[], &attributes), text.clone()),
            (error(NLM_F_ACK_TLVS, &padded, &attributes), text.clone()),
            (error(NLM_F_CAPPED, &[], &[]), None),
            (error(0, &padded, &[]), None),
            (error(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[], &[0; 64]), None),
            (done(NLM_F_ACK_TLVS, -22, attributes.clone()), text),
            (done(0, -22, vec![]), None),
        ];
        for (answer, text) in table {
            let refusal = Answers::default().take(answer).unwrap_err();
            assert_eq!(refusal, Refusal { errno: 22, text });
        }
    }

    #[test]
    fn an_error_that_is_cut_short_has_no_text() {
        let whole = [attribute(2, &[0; 4]), attribute(1, PROBLEM)].concat();
        for cut in 0..whole.len() - 1 {
            assert_eq!(text(&whole[..cut]), None, "{cut} bytes");
        }
        assert_eq!(text(&whole).as_deref(), Some("Nexthop has invalid gateway"));
        let cut = error(NLM_F_ACK_TLVS, &[], &[]);
        assert_eq!(Answers::default().take(cut).unwrap_err(), Refusal::errno(22));
    }

    #[test]
    fn an_interruption_is_seen_on_any_message_also_the_last() {
        let object = |flags| {
            answer(
                flags | NLM_F_MULTIPART,
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(Default::default())),
            )
        };
        let table = [
            ([object(0), object(0), done(0, 0, vec![])], false),
            ([object(0), object(NLM_F_DUMP_INTR), done(0, 0, vec![])], true),
            ([object(0), object(0), done(NLM_F_DUMP_INTR, 0, vec![])], true),
        ];
        for (messages, interrupted) in table {
            let mut answers = Answers::default();
            messages.into_iter().for_each(|message| answers.take(message).unwrap());
            assert_eq!((answers.objects.len(), answers.interrupted), (2, interrupted));
        }
    }
}
