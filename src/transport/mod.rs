// SPDX-License-Identifier: Apache-2.0

//! The edge: bytes, sockets, certificates and headers.

pub mod address;
pub mod caller;
pub mod channel;
pub mod descriptors;
pub mod dial;
pub mod fd;
pub mod identity;
pub mod listen;
mod tally;
pub mod token;
pub mod trace_context;
pub mod wire;

pub use self::{
    address::{Address, InvalidAddress},
    caller::Caller,
    channel::{Channel, ChannelSettings, Link},
    dial::{DialError, Dialer},
    fd::{FdHub, FdStream, SendFds},
    identity::{Identity, Peer, Svid},
    listen::{Accepted, ListenError, Listener},
    token::{Denied, Token},
    wire::{Wire, origin},
};
