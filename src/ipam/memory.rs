// SPDX-License-Identifier: Apache-2.0

//! Allocates from a [`Tree`] in memory, with optional [`Faults`].

use ipnet::IpNet;

use super::{AllocateError, Allocator, Faults, Subnet, Tree, TreeError, allocator::parse_answer};
use crate::api::Family;

/// An allocator in memory. Clones share tree and faults.
#[derive(Clone, Debug)]
pub struct InMemory {
    tree: Tree,
    subnet: Subnet,
    faults: Faults,
}

impl InMemory {
    /// Allocates the children of a subnet from a tree, without faults.
    pub fn new(tree: Tree, subnet: Subnet) -> Self {
        Self { tree, subnet, faults: Faults::default() }
    }

    /// The faults of later calls.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The subnet.
    pub fn subnet(&self) -> &Subnet {
        &self.subnet
    }
}

impl Allocator for InMemory {
    async fn allocate(&self, child: &str, family: Family) -> Result<IpNet, AllocateError> {
        let effect = async {
            self.tree.configured(&self.subnet).await;
            Ok(self.tree.allocate(&self.subnet, child, family)?)
        };
        self.faults
            .around(
                |calls| calls.allocate += 1,
                effect,
                |address: &str, length| Some(parse_answer(address, length, family)),
            )
            .await
    }

    async fn release(&self, child: &str, family: Family) -> Result<(), AllocateError> {
        let effect = async {
            self.tree.release(&self.subnet, child, family);
            Ok(())
        };
        self.faults.around(|calls| calls.release += 1, effect, |_, _| None).await
    }
}

impl From<TreeError> for AllocateError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Exhausted => Self::Exhausted(error.to_string()),
            TreeError::UnknownFamily | TreeError::UnknownTrench | TreeError::UnknownConduit(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}
