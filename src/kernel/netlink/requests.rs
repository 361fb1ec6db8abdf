// SPDX-License-Identifier: Apache-2.0

//! Sends requests to the kernel: dumps, each a consistent snapshot, and changes.

use std::{io, time::Duration};

use futures::StreamExt;
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage},
    packet_route::RouteNetlinkMessage,
    sys::{AsyncSocket, Socket},
};
use tokio::{task::JoinHandle, time::sleep};

use super::answers::Answers;
use crate::kernel::{Refusal, backend::errno};

/// Timeout of one answer. The kernel answers while the request is being sent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump that a change interrupts is attempted.
const ATTEMPTS: u32 = 4;
/// Pause after the first interrupted dump; it grows with each further one.
const PAUSE: Duration = Duration::from_millis(5);

/// Socket options that a connection requests beyond those of every kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checks {
    /// Errors with a text (Linux 4.12) and dumps filtered by the kernel (Linux 4.20), where the
    /// kernel supports them.
    IfPossible,
    /// None of them, as on older kernels.
    #[cfg(test)]
    None,
}

/// A connection for requests. Its task ends with it.
pub(super) struct Requests {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Requests {
    /// Opens a connection. A caller that dumps must filter the result: a kernel may ignore the link
    /// or the table of the request.
    pub(super) fn open(checks: Checks) -> io::Result<Self> {
        let (mut connection, handle, _) = rtnetlink::new_connection()?;
        connection.set_forward_done(true);
        if checks == Checks::IfPossible {
            let socket = connection.socket_mut().socket_mut();
            optional("NETLINK_EXT_ACK", Socket::set_ext_ack(socket, true))?;
            optional("NETLINK_CAP_ACK", Socket::set_cap_ack(socket, true))?;
            optional("NETLINK_GET_STRICT_CHK", Socket::set_netlink_get_strict_chk(socket, true))?;
        }
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Dumps until a dump is a consistent snapshot, and returns all its messages.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        whole(|| self.ask(request.clone())).await
    }

    /// One link; `None` if it does not exist.
    pub(super) async fn get(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let answers = unless(errno::ENODEV, self.ask(request).await)?;
        Ok(answers.and_then(|mut answers| answers.objects.pop()))
    }

    /// Makes a change and waits for the acknowledgement.
    pub(super) async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.ask(request).await.map(drop)
    }

    async fn ask(&self, request: NetlinkMessage<RouteNetlinkMessage>) -> Result<Answers, Refusal> {
        let mut handle = self.handle.clone();
        let mut stream = handle.request(request).map_err(Refusal::broken)?;
        let collect = async {
            let mut answers = Answers::default();
            while let Some(answer) = stream.next().await {
                answers.take(answer)?;
            }
            Ok(answers)
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, collect).await {
            Ok(Ok(_)) if self.connection.is_finished() => Err(Refusal::broken("the connection ended")),
            Ok(result) => result,
            Err(_) => Err(Refusal::broken(format_args!("none within {ANSWER_TIMEOUT:?}"))),
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// An answer; `None` if the kernel refused with this error number.
pub(super) fn unless<T>(errno: i32, answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Err(refusal) if refusal.errno == errno => Ok(None),
        answer => answer.map(Some),
    }
}

/// Ignores that the kernel does not have a socket option.
fn optional(option: &str, set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(error) if error.raw_os_error() == Some(errno::ENOPROTOOPT) => {
            tracing::info!(option, "this kernel does not have it: going on without");
            Ok(())
        }
        set => set,
    }
}

/// Dumps until no change interrupts the dump. An interrupted dump cannot be used: objects may be
/// missing or listed twice.
async fn whole<F: Future<Output = Result<Answers, Refusal>>>(
    mut dump: impl FnMut() -> F,
) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
    let mut attempts = Attempts::default();
    loop {
        let answers = dump().await?;
        if !answers.interrupted {
            return Ok(answers.objects);
        }
        attempts.again().await?;
    }
}

/// Counts the dumps that changes have interrupted.
#[derive(Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Waits before the next dump, a little longer each time.
    ///
    /// # Errors
    /// The maximum number of attempts is reached: the kernel cannot be read at present.
    pub(super) async fn again(&mut self) -> Result<(), Refusal> {
        self.0 += 1;
        if self.0 < ATTEMPTS {
            sleep(PAUSE * self.0).await;
            return Ok(());
        }
        let text = format!("the kernel changed during each of {ATTEMPTS} dumps");
        Err(Refusal { errno: errno::EINTR, text: Some(text) })
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use rtnetlink::packet_route::rule::RuleMessage;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_dump_is_repeated_and_never_used() {
        for interruptions in 0..=ATTEMPTS {
            let mut dumps = 0;
            let result = whole(|| {
                dumps += 1;
                let rule = RouteNetlinkMessage::NewRule(RuleMessage::default());
                let interrupted = dumps <= interruptions;
                let objects = vec![rule; if interrupted { 2 } else { 1 }];
                ready(Ok(Answers { objects, interrupted }))
            })
            .await;
            match result {
                Ok(objects) => assert_eq!((objects.len(), dumps), (1, interruptions + 1)),
                Err(refusal) => {
                    assert_eq!((interruptions, dumps), (ATTEMPTS, ATTEMPTS));
                    assert!(refusal.to_string().contains("changed during each of 4 dumps"), "{refusal}");
                }
            }
        }
    }

    #[tokio::test]
    async fn an_option_that_the_kernel_lacks_is_gone_without() {
        assert!(optional("option", Err(io::Error::from_raw_os_error(errno::ENOPROTOOPT))).is_ok());
        assert!(optional("option", Err(io::Error::from_raw_os_error(1))).is_err());
    }
}
