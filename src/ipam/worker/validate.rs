// SPDX-License-Identifier: Apache-2.0

//! Refuses answers that contradict the other leases.
//!
//! 1. An address has one name. An Allocate that returns the address of another name is garbage.
//! 2. All leases of a node are in the subnet of the bridge. An Allocate that returns an address
//!    outside is garbage.
//! 3. The contradicted leases are renewed, because the service may have forgotten them. Garbage by
//!    rule 1 is released at once, so that the address is free for the name that has it.

use std::sync::Arc;

use ipnet::IpNet;

use super::Worker;
use crate::{
    api::Family,
    ipam::{AllocateError, Allocator, BRIDGE, call::Outcome},
};

/// A lease that an answer contradicts.
struct Contradiction {
    other: Arc<str>,
    problem: String,
    /// By rule 1.
    of_name: bool,
}

impl<A: Allocator> Worker<A> {
    /// Rules 1 to 3. Returns the names to renew afterwards, and whether the allocation has to be
    /// released at once, before that.
    pub(super) fn validate(&self, child: &str, outcome: &mut Outcome) -> (Vec<Arc<str>>, bool) {
        let (answers, allocated) = match outcome {
            Outcome::Allocated(answers) => (answers, true),
            Outcome::Renewed(answers) => (answers, false),
            Outcome::Released(_) => return (Vec::new(), false),
        };
        let mut others = Vec::new();
        let mut twice = false;
        for family in Family::BOTH {
            let Some(Ok(net)) = answers.get(family).cloned() else { continue };
            let Some(Contradiction { other, problem, of_name }) = self.contradiction(child, family, net)
            else {
                continue;
            };
            if allocated {
                let value = net.to_string();
                let problem = problem.into();
                *answers.slot(family) = Some(Err(AllocateError::Garbage { value, problem, family }));
            }
            if self.entries.get(&other).is_some_and(|entry| entry.state.moved().is_none()) {
                twice |= of_name;
                others.push(other);
            }
        }
        (others, allocated && twice)
    }

    /// The lease that an answer contradicts, if any.
    fn contradiction(&self, child: &str, family: Family, net: IpNet) -> Option<Contradiction> {
        if let Some(other) = self.used.by(net.addr()).filter(|other| ***other != *child) {
            let problem = format!("the address of `{other}`");
            return Some(Contradiction { other: Arc::clone(other), problem, of_name: true });
        }
        let (bridge, entry) = self.entries.get_key_value(BRIDGE).filter(|_| child != BRIDGE)?;
        let newest = entry.state.moved().or(entry.state.addresses())?;
        let subnet = newest.get(family)?.trunc();
        let problem = format!("not in {subnet}, the subnet of the bridge");
        (net.trunc() != subnet).then(|| Contradiction { other: Arc::clone(bridge), problem, of_name: false })
    }
}
