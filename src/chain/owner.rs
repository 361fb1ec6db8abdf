// SPDX-License-Identifier: Apache-2.0

//! The identity to which a connection belongs.

use std::{fmt, sync::Arc};

/// Identity of the client that started a connection, in the extensions of a call whose path was
/// verified. A call without one comes from inside this process.
///
/// The first Request of a connection sets its owner; [`begin`](crate::chain::begin) denies every
/// call of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner(Arc<str>);

impl Owner {
    /// The owner with this SPIFFE id.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// SPIFFE id.
    pub fn id(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
