// SPDX-License-Identifier: Apache-2.0

//! Bound the file descriptors of this process.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raise the number of descriptors that this process may have (`RLIMIT_NOFILE`) as far as an
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
