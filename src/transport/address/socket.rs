// SPDX-License-Identifier: Apache-2.0

//! A stream that is either a unix or a TCP stream.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{Address, connect::connect};
use crate::transport::fd::{FdHub, FdStream, peek};

/// A connected stream. Only the unix one carries descriptors.
#[derive(Debug)]
pub enum Socket {
    /// A unix stream with descriptors beside its bytes.
    Unix(FdStream),
    /// A TCP stream.
    Tcp(TcpStream),
}

impl Socket {
    /// Connects to an address. A host name is resolved; the first of its addresses that answers is
    /// used.
    ///
    /// # Errors
    /// The error of the last address tried.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => Ok(UnixStream::connect(path).await?.into()),
            Address::Tcp(address) => connect(address).await?.try_into(),
        }
    }

    /// Waits until the peer has sent a byte, or has closed.
    pub(crate) fn poll_heard(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Socket::Unix(stream) => stream.poll_heard(cx),
            Socket::Tcp(stream) => stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])).map(drop),
        }
    }

    /// Whether the peer has sent a byte, or has closed, by now.
    pub(crate) fn is_heard(&self) -> bool {
        !peek(self).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The descriptors of this connection; `None` for TCP.
    pub fn hub(&self) -> Option<Arc<FdHub>> {
        match self {
            Socket::Unix(stream) => Some(stream.hub()),
            Socket::Tcp(_) => None,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(FdStream::new(stream))
    }
}

impl TryFrom<TcpStream> for Socket {
    type Error = io::Error;

    /// HTTP/2 writes small frames, which must not wait for one another.
    fn try_from(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }
}

/// Passes a poll on to the present stream.
macro_rules! either {
    ($socket:expr, $stream:ident => $poll:expr) => {
        match $socket {
            Socket::Unix($stream) => $poll,
            Socket::Tcp($stream) => $poll,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
