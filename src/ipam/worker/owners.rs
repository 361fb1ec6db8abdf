// SPDX-License-Identifier: Apache-2.0

//! Gives each owner a separate lease, even under a name that several use.
//!
//! 1. A name belongs to the first owner that acquires it, until its addresses are given back: also
//!    while its Release is awaited.
//! 2. Another owner gets a lease under the name with its [`Tag`] as suffix, and keeps that as long
//!    as it has it.
//! 3. The proxy itself is an owner, too. Its names and those with a suffix cannot be had by
//!    choosing a connection id: names of connections end in `-src` or `-dst`.

use std::sync::Arc;

use super::Worker;
use crate::{
    chain::Owner,
    ipam::{Allocator, restored::Record, tag::Tag},
};

impl<A: Allocator> Worker<A> {
    /// Name of the lease of an owner that requests `child`.
    pub(super) fn name_for(&self, child: Arc<str>, owner: Option<&Owner>) -> Arc<str> {
        let tag = owner.map(Tag::of);
        let first = self.owner_of(&child);
        if first == Some(tag.as_ref()) {
            return child;
        }
        let own: Arc<str> = match &tag {
            Some(tag) => format!("{child}@{tag}").into(),
            None => format!("{child}@").into(),
        };
        match (first, self.owner_of(&own)) {
            (_, Some(_)) => own,
            (None, None) => child,
            (Some(_), None) => {
                let first = self.entries.get(&child).and_then(|entry| entry.owner.as_ref());
                tracing::warn!(
                    name = %child, first = first.map(Owner::id), second = owner.map(Owner::id), lease = %own,
                    "two clients use the same connection id: the second one gets a lease of its own"
                );
                own
            }
        }
    }

    /// The tag of the owner of a name; `None` if the name is free.
    fn owner_of(&self, child: &str) -> Option<Option<&Tag>> {
        let held = self.entries.get(child).map(|entry| entry.tag.as_ref());
        held.or_else(|| self.restored.get(child).map(|Record { owner, .. }| owner.as_ref()))
    }
}
