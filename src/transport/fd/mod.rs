// SPDX-License-Identifier: Apache-2.0

//! Carries file descriptors beside the bytes of a unix stream, as NSM does.
//!
//! [`FdStream`] lies below TLS and HTTP/2, which do not know of it. A descriptor travels with any
//! byte of the stream; nothing in the stream identifies it. Messages name it by device and inode
//! number ([`Inode`](crate::api::Inode)), and the receiver claims it from the [`FdHub`] of its
//! connection. A connection receives none unless its hub keeps them ([`FdHub::keep_received`]); an
//! unclaimed descriptor is closed after a while, at the latest with the connection.
//!
//! # Known limits
//! A descriptor needs a byte to travel with: while nothing is written, it stays queued.

mod hub;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::{hub::Receives, stream::peek};
pub use self::{
    hub::{FdHub, Queued, SendFds},
    stream::FdStream,
};
