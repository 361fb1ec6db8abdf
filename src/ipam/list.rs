// SPDX-License-Identifier: Apache-2.0

//! The leases one by one, for observers.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

use super::state::{Phase, State};
use crate::api::Dual;

/// Every lease that is not free, by name. The task that owns the leases changes it in place, so a
/// lease costs its own entry, however many there are.
pub(crate) type List = BTreeMap<Arc<str>, Listed>;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// `wanted`, `held` or `releasing`.
    pub(crate) state: &'static str,
    /// Number of its holders.
    pub(crate) holders: usize,
    /// The addresses in use; none while it is wanted, or once its release has begun.
    pub(crate) addresses: Vec<IpNet>,
    /// The addresses that the service has answered in their place.
    pub(crate) moved: Vec<IpNet>,
    /// It is that of an earlier process, and the service has not confirmed it yet.
    pub(crate) unverified: bool,
}

impl Listed {
    /// The entry of a lease; `None` if it is free.
    pub(super) fn of(state: &State) -> Option<Self> {
        let (name, holders) = match state.phase {
            Phase::Free => return None,
            Phase::Wanted => ("wanted", 0),
            Phase::Held { holders } => ("held", holders),
            Phase::Releasing { .. } => ("releasing", 0),
        };
        Some(Self {
            state: name,
            holders,
            addresses: nets(state.addresses()),
            moved: nets(state.moved()),
            unverified: state.is_unverified(),
        })
    }
}

fn nets(addresses: Option<Dual<IpNet>>) -> Vec<IpNet> {
    addresses.iter().flat_map(Dual::iter).map(|(_, net)| *net).collect()
}
