// SPDX-License-Identifier: Apache-2.0

//! Bounds the file descriptors that peers can make this process hold.
//!
//! A [`reserve`] is kept from them, for dialling, netlink and files. Of the rest each listener
//! takes a share for the connections that it keeps. A descriptor that a peer passes gets the lowest
//! free number, so its number shows how many are left.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Number of descriptors that lets peers have as many connections as a listener keeps.
#[cfg(feature = "otlp")]
pub(crate) const NEEDED: u64 = 2176;

/// Raises the number of descriptors that this process may have (`RLIMIT_NOFILE`) as far as an
/// ordinary user can: to the hard limit. Returns the number.
///
/// # Errors
/// The system refuses.
pub fn raise() -> io::Result<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(self::limit())
}

/// The number of descriptors that this process may have.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The number of descriptors that are kept from peers.
pub fn reserve() -> u64 {
    (limit() / 4).min(128)
}

/// Whether a descriptor that a peer has passed may be kept.
pub(crate) fn leaves_reserve(new: impl AsFd) -> bool {
    // A descriptor is never negative.
    let number = u64::try_from(new.as_fd().as_raw_fd()).unwrap_or(0);
    number < limit() - reserve()
}

/// The part of the descriptors for peers, one of `parts` and at most `most`.
pub(crate) fn share(parts: u64, most: usize) -> usize {
    let part = (limit() - reserve()) / parts;
    usize::try_from(part).unwrap_or(most).clamp(1, most)
}
