// SPDX-License-Identifier: Apache-2.0

//! The edge: bytes, sockets, certificates and headers.

pub(crate) mod address;
pub(crate) mod caller;
pub(crate) mod channel;
pub mod descriptors;
pub(crate) mod dial;
pub(crate) mod fd;
pub(crate) mod identity;
pub(crate) mod listen;
mod tally;
pub mod token;
pub mod trace_context;
pub(crate) mod wire;

pub use self::{
    address::{Address, InvalidAddress, Socket},
    caller::Caller,
    channel::{Channel, ChannelSettings, Link},
    dial::{DialError, Dialer},
    fd::{FdHub, FdStream, Queued, SendFds},
    identity::{
        Identity, IdentityState, InvalidLeaf, NoIdentity, Peer, RefusedSvid, Svid, SvidError, Unverified,
    },
    listen::{Accepted, CallInProgress, Calls, ListenError, Listener, Seat},
    token::{Denied, Token},
    wire::{Ended, Wire, origin},
};
