// SPDX-License-Identifier: Apache-2.0

//! Give both ends of a link their addresses (Meridio `ipcontext`).
//!
//! A connection has two leases, `<id>-src` and `<id>-dst`, where the id is that of the client that started it, so that addresses
//! survive a replaced proxy. They belong to the SPIFFE id of that client: another one with the same connection id gets leases of
//! other names. What is written is decided by [`rules`].
//!
//! # State
//! Both leases, and towards a load balancer the task that re-makes the connection when the service has moved them. A refresh asks
//! for them again, which makes no RPC as long as they are held, and brings new addresses if the service has moved them.
//!
//! # Close
//! Nothing to do: the leases are dropped with the scope when the Close has succeeded, or when the path has expired, and released
//! some time later. Those of a first Request that fails are dropped with it.

mod client;
mod endpoint;
mod gateways;
mod moving;
pub mod rules;

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

/// Acquire both leases of a call's connection at once, for the client that the call's path was verified to come from.
async fn acquire(leases: &Leases, request: &Request) -> Result<Held> {
    let (id, context) = (request.connection.client_id(), &request.context);
    let ([src, dst], deadline) = (names(id), context.deadline);
    let owner = context.extensions.get::<Owner>();
    let both = futures::future::try_join(
        leases.acquire_for(&src, owner, deadline),
        leases.acquire_for(&dst, owner, deadline),
    );
    let (src, dst) = both.await.map_err(|error| Error::from(reason(&error)))?;
    Ok(Held { src, dst })
}

/// The reason that tells a caller what to do.
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
