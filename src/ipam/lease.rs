// SPDX-License-Identifier: Apache-2.0

//! The addresses of a name, held by a guard: clone a lease for each holder, and drop it.

use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::mpsc;

use super::AllocateError;
use crate::api::{Dual, Family};

/// Maximum length of a child's name, in bytes.
pub const MAX_NAME: usize = 1_024;

/// One holder of the addresses of a name. A clone is another holder; they are released some time
/// after the last one is dropped.
#[derive(Clone, Debug)]
#[must_use = "the addresses are released when the last holder is dropped"]
pub struct Lease(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    child: Arc<str>,
    addresses: Dual<IpNet>,
    slot: Option<Slot>,
}

/// Room for the message that a holder is gone, reserved before there is a holder: dropping one
/// cannot fail and does not wait.
pub(super) type Slot = mpsc::OwnedPermit<Arc<str>>;

impl Lease {
    pub(super) fn new(child: Arc<str>, addresses: Dual<IpNet>, slot: Slot) -> Self {
        Self(Arc::new(Holder { child, addresses, slot: Some(slot) }))
    }

    /// Name of the child.
    pub fn child(&self) -> &str {
        &self.0.child
    }

    /// One host address per family, with the prefix length of the node.
    pub fn addresses(&self) -> Dual<IpNet> {
        self.0.addresses
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let _sender = slot.send(Arc::clone(&self.child));
        }
    }
}

/// The reason why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The name is empty or too long. Do not retry.
    #[error("the name of a lease has {length} bytes (accepted: 1 to {MAX_NAME})")]
    Name {
        /// Its length in bytes.
        length: usize,
    },
    /// There are too many leases, holders or callers. Retry when some have gone.
    #[error("too many leases or holders (accepted: {limit})")]
    TooMany {
        /// The bound that was reached.
        limit: usize,
    },
    /// No answer before the caller's deadline. The call continues; retry.
    #[error("no address before the deadline")]
    Deadline,
    /// The leases have been flushed, or their task was stopped. Do not retry.
    #[error("the leases are not kept any more")]
    Stopped,
    /// One family could not be allocated; the others are released. Retry, unless the source advises
    /// otherwise.
    #[error("no {family} address for `{child}`")]
    Allocate {
        /// Name of the child.
        child: String,
        /// The family, the first of them if both failed.
        family: Family,
        /// The error of the address service.
        source: AllocateError,
    },
}
