// SPDX-License-Identifier: Apache-2.0

//! Makes the authorities of gRPC's C core acceptable to the HTTP/2 library.
//!
//! Over unix sockets its clients (Python, C++, Ruby, PHP) send the percent-encoded path of the
//! socket as `:authority`. The library refuses a `%` in a host, and resets the stream. The server
//! does not use the authority, so each `%` becomes `-` on its way in. Lengths do not change, and
//! with them the frames and the compression state of both sides.
//!
//! # Known limits
//! An authority with Huffman coding is not changed; the C core uses none.

mod fields;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::fields::Fields;

const PREFACE: u32 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len() as u32;
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A connection, from the view of the server.
pub(super) struct Acceptable<S> {
    stream: S,
    frames: Frames,
}

/// The frames that a client sends.
struct Frames {
    at: At,
    head: [u8; HEAD],
    fields: Fields,
}

/// The part of a frame to which the next byte belongs.
#[derive(Clone, Copy)]
enum At {
    /// The first nine bytes of a frame, of which so many have arrived.
    Head(usize),
    /// This many bytes outside of a field block.
    Other(u32),
    /// The length of the padding; it is one of so many bytes of the frame.
    Padding(u32),
    /// A priority of this many bytes, a field block, and padding.
    Prioritized(u32, u32, u32),
    /// This many bytes of a field block, then padding.
    Fields(u32, u32),
}

impl<S> Acceptable<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self { at: At::Other(PREFACE), head: [0; HEAD], fields: Fields::default() }
    }
}

impl Frames {
    /// Follows the bytes of a client, and changes those of authorities.
    fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let read = self.step(bytes);
            bytes = &mut bytes[read..];
        }
    }

    /// Reads some bytes, which belong to one part. Returns how many.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        match self.at {
            At::Head(have) => {
                let read = bytes.len().min(HEAD - have);
                self.head[have..have + read].copy_from_slice(&bytes[..read]);
                self.at = if have + read < HEAD { At::Head(have + read) } else { self.frame() };
                read
            }
            At::Other(left) => {
                let read = part(bytes, left);
                self.at = other(left - read as u32);
                read
            }
            At::Padding(left) => {
                let padding = u32::from(bytes[0]);
                self.at = match (left - 1).checked_sub(padding) {
                    Some(left) => self.prioritized(left, padding),
                    None => other(left - 1),
                };
                1
            }
            At::Prioritized(left, block, padding) => {
                let read = part(bytes, left);
                self.at = prioritized(left - read as u32, block, padding);
                read
            }
            At::Fields(left, padding) => {
                let read = part(bytes, left);
                self.fields.follow(&mut bytes[..read]);
                self.at = block(left - read as u32, padding);
                read
            }
        }
    }

    /// The part after the head of a frame.
    fn frame(&mut self) -> At {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        match kind {
            HEADERS => {
                self.fields = Fields::default();
                if flags & PADDED != 0 && length > 0 {
                    At::Padding(length)
                } else {
                    self.prioritized(length, 0)
                }
            }
            CONTINUATION => block(length, 0),
            _ => other(length),
        }
    }

    /// The part after the padding's length, with this many bytes before the padding.
    fn prioritized(&self, left: u32, padding: u32) -> At {
        match (self.head[4] & PRIORITY != 0, left.checked_sub(5)) {
            (false, _) => block(left, padding),
            (true, Some(left)) => prioritized(5, left, padding),
            (true, None) => other(left + padding),
        }
    }
}

/// How many of the bytes are among the next `left`.
fn part(bytes: &[u8], left: u32) -> usize {
    bytes.len().min(left as usize)
}

fn other(left: u32) -> At {
    if left > 0 { At::Other(left) } else { At::Head(0) }
}

fn block(left: u32, padding: u32) -> At {
    if left > 0 { At::Fields(left, padding) } else { other(padding) }
}

fn prioritized(left: u32, fields: u32, padding: u32) -> At {
    if left > 0 { At::Prioritized(left, fields, padding) } else { block(fields, padding) }
}

impl<S: AsyncRead + Unpin> AsyncRead for Acceptable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.frames.follow(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Acceptable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
