// SPDX-License-Identifier: Apache-2.0
//! Authorizes registrations by NSM's registry policies.
//!
//! 1. The call has a `path` header, and the caller sent a token.
//! 2. With our own token added, the tokens of the path are valid, not expired and chained, and the
//!    caller signed its own.
//! 3. `client_allowed`: the name is new, or belongs to the SPIFFE id of the first token in the
//!    path.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tonic::{Request, Response, Status};

use super::Store;
use nsm::{
    api::PathSegment,
    registry::TokenPath,
    transport::{
        Caller,
        token::{issue, verify_received},
    },
};

/// Lifetime of the tokens that a registry issues.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

/// The owner of each name. Never shrinks by expiry, as in NSM; an owner gives a name up by
/// unregistering it.
#[derive(Debug, Default)]
pub struct Owners(Mutex<HashMap<String, String>>);

/// A call that may proceed.
pub(super) struct Authorized {
    /// The caller.
    pub(super) caller: Caller,
    /// SPIFFE ids of the hops: caller and registry.
    pub(super) path_ids: Vec<String>,
    path: TokenPath,
}

fn denied(why: &str) -> Status {
    Status::permission_denied(format!(
        "registry: an error occurred during authorization policy check: no sufficient privileges: {why}"
    ))
}

impl Owners {
    /// Checks a call that changes `name`.
    ///
    /// # Errors
    /// `PermissionDenied` with the rule that does not hold; `InvalidArgument` for malformed
    /// headers.
    pub(super) fn authorize<T>(&self, request: &Request<T>, name: &str) -> Result<Authorized, Status> {
        let caller = Caller::of(request)?;
        let path = TokenPath::read(request.metadata())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut path = path.ok_or_else(|| denied("no `path` header"))?; // 1
        let token = caller.token.as_ref().ok_or_else(|| denied("no token"))?;
        let own = issue(&caller.svid, &caller.peer, TOKEN_LIFETIME);
        let own = own.map_err(|error| Status::internal(error.to_string()))?;
        path.enter(token.jwt().to_owned(), own.jwt().to_owned());
        let segments: Vec<PathSegment> = path
            .tokens()
            .take(2) // we are the first registry: segments right of us are of an earlier answer
            .map(|token| PathSegment { token: token.to_owned(), ..PathSegment::default() })
            .collect();
        let verified = verify_received(&segments, &caller.peer, SystemTime::now());
        verified.map_err(|error| denied(&error.to_string()))?; // 2
        let path_ids = vec![caller.peer.id().to_owned(), caller.svid.id().to_owned()];
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = owners.entry(name.to_owned()).or_insert_with(|| path_ids[0].clone());
        if *owner != path_ids[0] {
            return Err(denied(&format!("client_allowed: {name} belongs to {owner}"))); // 3
        }
        drop(owners);
        Ok(Authorized { caller, path_ids, path })
    }

    /// Removes an entry of the store, whose name its owner gives up.
    ///
    /// # Errors
    /// Those of `authorize`.
    pub fn unregister<M, T: Clone>(
        &self,
        request: &Request<M>,
        name: &str,
        store: &Store<T>,
    ) -> Result<Response<()>, Status> {
        let authorized = self.authorize(request, name)?;
        store.remove(name);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(authorized.answer(()))
    }
}

impl Authorized {
    /// An answer with the path in its headers.
    pub(super) fn answer<M>(&self, message: M) -> Response<M> {
        let mut response = Response::new(message);
        self.path.write(response.metadata_mut());
        response
    }
}
