// SPDX-License-Identifier: Apache-2.0

//! Assigns addresses to both ends of a link (Meridio `ipcontext`).
//!
//! The lease of a client is `<id>-src`, where the id is that of the client that started the
//! connection, so that its addresses survive a replaced proxy. It belongs to the SPIFFE id of that
//! client: another one with the same connection id gets a lease of another name. The endpoint's
//! side of the link to a load balancer has the lease `<id>-dst`. The proxy's ports towards targets
//! share one lease, [`PORTS`](crate::ipam::PORTS), so that a target that joins waits for its own
//! addresses only. The Go proxy leases `<id>-dst` for each port and replaces existing addresses.
//! The rules in `ipam/rules` decide the content.
//!
//! # State
//! Both leases, and towards a load balancer its former addresses and the task that requests the
//! connection again when the service has moved them. A refresh acquires them again, which makes no
//! RPC as long as they are held, and brings new addresses if the service has moved them.
//!
//! # Close
//! The leases are dropped with the scope when the Close has succeeded, or when the path has
//! expired, and released some time later. Those of a first Request that fails are dropped with it.

mod client;
mod endpoint;
mod former;
mod gateways;
mod moving;
pub(crate) mod rules;

#[cfg(test)]
mod tests;

pub use self::{
    client::Client,
    endpoint::{Endpoint, Listed},
    gateways::Gateways,
};
use crate::{
    chain::{Error, Owner, Reason, Request, Result},
    ipam::{AllocateError, Lease, LeaseError, Leases},
};

/// The leases of a connection.
struct Held {
    src: Lease,
    dst: Lease,
}

/// The names of the leases of a client's connection: those of its own side, and of the other.
pub fn names(client: &str) -> [String; 2] {
    [format!("{client}-src"), format!("{client}-dst")]
}

/// Acquires the lease of the client of a call's connection, and another one, at once.
async fn acquire(leases: &Leases, request: &Request, other: &str) -> Result<Held> {
    let id = request.connection.client_id();
    let context = &request.context;
    let ([src, _], deadline) = (names(id), context.deadline);
    let both = futures::future::try_join(
        leases.acquire_for(&src, context.extensions.get::<Owner>(), deadline),
        leases.acquire(other, deadline),
    );
    let (src, dst) = both.await.map_err(|error| Error::from(reason(&error)))?;
    Ok(Held { src, dst })
}

/// The reason of a lease error, by which a caller knows whether to retry.
fn reason(error: &LeaseError) -> Reason {
    let text = error.to_string();
    match error {
        LeaseError::Name { .. } => Reason::Invalid(text),
        LeaseError::TooMany { .. } => Reason::Exhausted(text),
        LeaseError::Deadline => Reason::Deadline,
        LeaseError::Stopped => Reason::Unavailable(text),
        LeaseError::Allocate { source, .. } => {
            let text = format!("{text}: {source}");
            match source {
                AllocateError::Exhausted(_) => Reason::Exhausted(text),
                AllocateError::Refused(_) => Reason::Refused(text),
                _ => Reason::Unavailable(text),
            }
        }
    }
}
