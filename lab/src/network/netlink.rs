// SPDX-License-Identifier: Apache-2.0
//! Reads and changes the links, addresses, routes and rules of a namespace.
//!
//! This is the lab's own netlink client, independent of the proxy's: it builds the topology, serves
//! the forwarder, and counts at the end. Links are in [`links`](super::links), the rest in
//! [`routes`](super::routes).

use std::io;

use rtnetlink::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::netns::Netns;
use crate::error::LabError;

/// A netlink connection in a namespace. It ends when dropped.
pub struct Netlink {
    pub(super) handle: Handle,
    _connection: AbortOnDropHandle<()>,
}

/// The kernel refused an operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct NetlinkError {
    /// The failed operation, with names and addresses.
    pub doing: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl From<NetlinkError> for LabError {
    fn from(error: NetlinkError) -> Self {
        Self { doing: error.doing, source: error.source.into() }
    }
}

impl Netlink {
    /// Connects inside a namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the socket cannot be opened.
    pub fn connect(netns: &Netns) -> io::Result<Self> {
        let (connection, handle, _events) = netns.run(rtnetlink::new_connection)?;
        Ok(Self { handle, _connection: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }
}

/// Adds the operation to an error.
pub(super) fn doing<T>(
    result: Result<T, rtnetlink::Error>,
    what: impl FnOnce() -> String,
) -> Result<T, NetlinkError> {
    result.map_err(|error| NetlinkError { doing: what(), source: to_io(error) })
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// Whether the kernel answers that the object exists already.
pub(super) fn exists(error: &rtnetlink::Error) -> bool {
    errno(error) == Some(rustix::io::Errno::EXIST)
}

/// Whether the kernel answers that the object does not exist.
pub(super) fn missing(error: &rtnetlink::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::NODEV, Errno::SRCH, Errno::NOENT, Errno::ADDRNOTAVAIL];
    errno(error).is_some_and(|errno| gone.contains(&errno))
}

fn errno(error: &rtnetlink::Error) -> Option<rustix::io::Errno> {
    let rtnetlink::Error::NetlinkError(message) = error else { return None };
    Some(rustix::io::Errno::from_raw_os_error(message.raw_code().saturating_neg()))
}
