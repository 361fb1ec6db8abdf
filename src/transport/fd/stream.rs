// SPDX-License-Identifier: Apache-2.0

//! Reads and writes a unix stream with `recvmsg` and `sendmsg`, so that descriptors pass beside the
//! bytes.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep_until},
};

use super::{FdHub, Receives};

/// Maximum number of descriptors sent in one message: NSM's Go peers have room for as many.
pub(crate) const MAX_PER_MESSAGE: usize = 64;

/// Maximum number of descriptors that Linux passes in one message.
const MAX_RECEIVED: usize = 253;

/// Maximum number of buffers in one message: IOV_MAX of Linux.
const MAX_BUFFERS: usize = 1024;

/// A unix stream that carries descriptors beside its bytes. Dropping it closes its [`FdHub`].
#[derive(Debug)]
pub struct FdStream {
    io: UnixStream,
    hub: Arc<FdHub>,
    expiry: Option<Pin<Box<Sleep>>>,
}

impl FdStream {
    /// A stream over a connected socket, with an empty hub.
    pub fn new(io: UnixStream) -> Self {
        Self { io, hub: Arc::default(), expiry: None }
    }

    /// The descriptors of this connection.
    pub fn hub(&self) -> Arc<FdHub> {
        Arc::clone(&self.hub)
    }

    /// Waits until the peer has sent a byte, or has closed.
    pub(crate) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Readiness may be assumed; the reader receives any error.
            let Ok(()) = ready!(self.io.poll_read_ready(cx)) else { return Poll::Ready(()) };
            match self.io.try_io(Interest::READABLE, || peek(&self.io)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                _ => return Poll::Ready(()),
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        // A stream socket carries descriptors only with a byte.
        if buffers.iter().all(|buffer| buffer.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let buffers = &buffers[..buffers.len().min(MAX_BUFFERS)];
        loop {
            ready!(self.io.poll_write_ready(cx))?;
            match self
                .io
                .try_io(Interest::WRITABLE, || self.hub.leave(|fds, more| self.send(buffers, fds, more)))
            {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Sends one message: all of the descriptors, or an error. When more descriptors wait than one
    /// message carries, it spends one byte on this batch; a message with all bytes would leave the
    /// others waiting for a write that may never come.
    fn send(&self, buffers: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], more: bool) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PER_MESSAGE))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("no room for the descriptors of one message"));
        }
        let one;
        let buffers = match buffers.iter().find(|buffer| !buffer.is_empty()) {
            Some(buffer) if more => {
                one = [IoSlice::new(&buffer[..1])];
                &one[..]
            }
            _ => buffers,
        };
        Ok(sendmsg(&self.io, buffers, &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }

    /// Reads bytes into `buffer`, and the descriptors that come with them into the hub, if it
    /// receives any.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.hub.receives() {
            Receives::All => self.receive_with(buffer),
            Receives::Later => self.receive_before(buffer),
            Receives::None => {
                let (bytes, cut) = self.receive_bare(buffer, RecvFlags::empty())?;
                if cut {
                    tracing::trace!("descriptors that nobody claims here are refused");
                }
                Ok(bytes)
            }
        }
    }

    /// Reads one message into `buffer`; its descriptors go to the hub.
    fn receive_with(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_RECEIVED))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message = recvmsg(&self.io, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fds.for_each(|fd| self.hub.store(fd));
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "descriptors were cut off: too many in one message, or none left in this process",
            ));
        }
        Ok(message.bytes)
    }

    /// Reads the bytes before the first byte with descriptors, or some of them; that byte stays for
    /// later. With `MSG_PEEK` on a whole message, Linux also reports the descriptors of the next
    /// one. If the next byte comes with some, it is read without them.
    fn receive_before(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut cut, some) = self.receive_bare(buffer, RecvFlags::PEEK)?;
        let mut whole = if some { 0 } else { cut };
        while cut - whole > 1 {
            let middle = whole.midpoint(cut);
            match self.receive_bare(&mut buffer[..middle], RecvFlags::PEEK)? {
                (_, true) => cut = middle,
                (_, false) => whole = middle,
            }
        }
        let bytes = whole.max(1).min(buffer.len());
        Ok(self.receive_bare(&mut buffer[..bytes], RecvFlags::empty())?.0)
    }

    /// Reads bytes into `buffer`, without the descriptors that come with them; also returns whether
    /// there are some.
    fn receive_bare(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<(usize, bool)> {
        let mut none = RecvAncillaryBuffer::new(&mut []);
        let buffer = &mut [IoSliceMut::new(buffer)];
        let message = recvmsg(&self.io, buffer, &mut none, flags | RecvFlags::DONTWAIT)?;
        Ok((message.bytes, message.flags.contains(ReturnFlags::CTRUNC)))
    }

    /// Closes descriptors that have been unclaimed for too long. Must be polled with the reading
    /// side.
    fn poll_expiry(&mut self, cx: &mut Context<'_>) {
        while let Some(until) = self.hub.expire() {
            let expiry = self.expiry.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if expiry.deadline() != until {
                expiry.as_mut().reset(until);
            }
            if expiry.as_mut().poll(cx).is_pending() {
                return;
            }
        }
        self.expiry = None;
    }
}

/// Checks whether there is a byte, or the end.
pub(crate) fn peek(socket: impl AsFd) -> io::Result<usize> {
    Ok(recv(socket, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT)?.1)
}

impl AsFd for FdStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl AsyncRead for FdStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_expiry(cx);
        loop {
            ready!(self.io.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match self.io.try_io(Interest::READABLE, || self.receive(unfilled)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Drop for FdStream {
    fn drop(&mut self) {
        self.hub.close();
    }
}
