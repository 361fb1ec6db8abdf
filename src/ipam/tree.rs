// SPDX-License-Identifier: Apache-2.0

//! Allocates addresses as Meridio's IPAM does: a tree of prefixes, trench, conduit, node, child.
//!
//! 1. A child keeps its address until it is released: the same name gives the same address.
//! 2. A new conduit, node or child gets the lowest free prefix of its parent. The first and the
//!    last address of a node are not allocated.
//! 3. The answer is the child's address with the length of its node.
//! 4. A node appears with its first child and stays. A conduit is added and removed by the
//!    configuration; its nodes go with it.
//! 5. Releasing an unknown child succeeds.
//! 6. An allocation in an unknown conduit waits until it is added ([`InMemory`](super::InMemory)),
//!    as in Meridio's IPAM.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::sync::Notify;

use super::{Subnet, allocator::NO_MORE_PREFIX};
use crate::api::{Dual, Family};

/// The prefix of a trench, and the lengths below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Prefix of the trench.
    pub prefix: IpNet,
    /// Prefix length of a conduit.
    pub conduit: u8,
    /// Prefix length of a node.
    pub node: u8,
}

impl Pool {
    /// Meridio's default of a family: `169.255.0.0/16`, /20, /24 and `fd00::/48`, /56, /64.
    pub fn default_of(family: Family) -> Self {
        match family {
            Family::V4 => {
                let prefix = Ipv4Net::new_assert([169, 255, 0, 0].into(), 16).into();
                Self { prefix, conduit: 20, node: 24 }
            }
            Family::V6 => {
                let prefix = Ipv6Net::new_assert([0xfd00, 0, 0, 0, 0, 0, 0, 0].into(), 48).into();
                Self { prefix, conduit: 56, node: 64 }
            }
        }
    }
}

/// The reason why the tree has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The family has no pool.
    #[error("cannot allocate in this ip family")]
    UnknownFamily,
    /// The trench is another one.
    #[error("no corresponding trench")]
    UnknownTrench,
    /// The conduit is not configured (yet).
    #[error("no conduit `{0}`")]
    UnknownConduit(String),
    /// The parent has no free prefix.
    #[error("{NO_MORE_PREFIX}")]
    Exhausted,
}

/// The addresses of one trench. Clones share them.
#[derive(Clone, Debug)]
pub struct Tree(Arc<Trench>);

#[derive(Debug)]
struct Trench {
    name: String,
    pools: Dual<Pool>,
    roots: Mutex<Dual<Branch>>,
    configured: Notify,
}

#[derive(Debug)]
struct Branch {
    prefix: IpNet,
    below: BTreeMap<String, Branch>,
}

impl Tree {
    /// The tree of a trench, with Meridio's default pools of both families.
    pub fn new(trench: impl Into<String>) -> Self {
        Self::with_pools(
            trench,
            Family::BOTH.into_iter().map(|family| (family, Pool::default_of(family))).collect(),
        )
    }

    /// The tree of a trench with these pools.
    pub fn with_pools(trench: impl Into<String>, pools: Dual<Pool>) -> Self {
        let roots = Mutex::new(pools.map(|_, pool| Branch::new(pool.prefix)));
        Self(Arc::new(Trench { name: trench.into(), pools, roots, configured: Notify::new() }))
    }

    /// Adds a conduit, as the IPAM does when the NSP lists it. It may exist already.
    ///
    /// # Errors
    /// [`TreeError::Exhausted`] if the trench has no room for it.
    pub fn add_conduit(&self, name: &str) -> Result<(), TreeError> {
        let mut roots = self.roots();
        for (family, pool) in self.0.pools.iter() {
            if let Some(trench) = roots.slot(family) {
                trench.branch(name, pool.conduit, |_| false)?;
            }
        }
        drop(roots);
        self.0.configured.notify_waiters();
        Ok(())
    }

    /// Removes a conduit with all its addresses, as the IPAM does when the NSP does not list it any
    /// more.
    pub fn remove_conduit(&self, name: &str) {
        let mut roots = self.roots();
        for family in Family::BOTH {
            roots.slot(family).as_mut().and_then(|trench| trench.below.remove(name));
        }
    }

    /// Waits until the conduit of a subnet exists, unless the subnet is of another trench.
    pub async fn configured(&self, subnet: &Subnet) {
        loop {
            let changed = self.0.configured.notified();
            if subnet.trench != self.0.name
                || !self.roots().iter().any(|(_, trench)| !trench.below.contains_key(&subnet.conduit))
            {
                return;
            }
            changed.await;
        }
    }

    /// Allocates the address of a child: its own if it has one, else the lowest free one.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn allocate(&self, subnet: &Subnet, child: &str, family: Family) -> Result<IpNet, TreeError> {
        let pool = *self.0.pools.get(family).ok_or(TreeError::UnknownFamily)?;
        let mut roots = self.roots();
        let node = self.node(&mut roots, subnet, family, pool)?;
        let first = node.prefix.network();
        let last = node.prefix.broadcast();
        let address = node
            .branch(child, family.bits(), move |net: IpNet| net.addr() == first || net.addr() == last)?
            .prefix
            .addr();
        Ok(IpNet::new(address, pool.node).unwrap_or(node.prefix))
    }

    /// Releases the address of a child, if it has one.
    pub fn release(&self, subnet: &Subnet, child: &str, family: Family) {
        let mut roots = self.roots();
        if let Some(&pool) = self.0.pools.get(family)
            && let Ok(node) = self.node(&mut roots, subnet, family, pool)
        {
            node.below.remove(child);
        }
    }

    /// The address of a child, if it has one.
    pub fn get(&self, subnet: &Subnet, child: &str, family: Family) -> Option<IpNet> {
        let length = self.0.pools.get(family)?.node;
        let roots = self.roots();
        let node = roots.get(family)?.below.get(&subnet.conduit)?.below.get(&subnet.node)?;
        IpNet::new(node.below.get(child)?.prefix.addr(), length).ok()
    }

    /// All children with their addresses, as host prefixes, ordered by family, conduit, node and
    /// name.
    pub fn children(&self) -> Vec<(String, IpNet)> {
        let roots = self.roots();
        let nodes = roots.iter().flat_map(|(_, trench)| trench.below.values()).flat_map(|c| c.below.values());
        nodes.flat_map(|node| &node.below).map(|(name, child)| (name.clone(), child.prefix)).collect()
    }

    fn node<'a>(
        &self,
        roots: &'a mut Dual<Branch>,
        subnet: &Subnet,
        family: Family,
        pool: Pool,
    ) -> Result<&'a mut Branch, TreeError> {
        if subnet.trench != self.0.name {
            return Err(TreeError::UnknownTrench);
        }
        let trench = roots.slot(family).as_mut().ok_or(TreeError::UnknownFamily)?;
        let conduit = trench
            .below
            .get_mut(&subnet.conduit)
            .ok_or_else(|| TreeError::UnknownConduit(subnet.conduit.clone()))?;
        conduit.branch(&subnet.node, pool.node, |_| false)
    }

    fn roots(&self) -> MutexGuard<'_, Dual<Branch>> {
        self.0.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Branch {
    fn new(prefix: IpNet) -> Self {
        Self { prefix, below: BTreeMap::new() }
    }

    /// The branch of a name, made from the lowest free prefix of this length if there is none.
    fn branch(
        &mut self,
        name: &str,
        length: u8,
        blocked: impl Fn(IpNet) -> bool,
    ) -> Result<&mut Branch, TreeError> {
        if !self.below.contains_key(name) {
            let taken: BTreeSet<IpNet> = self.below.values().map(|branch| branch.prefix).collect();
            let mut candidates = self.prefix.subnets(length).map_err(|_| TreeError::Exhausted)?;
            let free = candidates.find(|net| !blocked(*net) && !taken.contains(net));
            let prefix = free.ok_or(TreeError::Exhausted)?;
            self.below.insert(name.to_owned(), Branch::new(prefix));
        }
        self.below.get_mut(name).ok_or(TreeError::Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(conduit: &str, node: &str) -> Subnet {
        Subnet { trench: "t".into(), conduit: conduit.into(), node: node.into() }
    }

    fn allocate(tree: &Tree, conduit: &str, node: &str, child: &str, family: Family) -> String {
        tree.allocate(&at(conduit, node), child, family)
            .map_or_else(|error| error.to_string(), |net| net.to_string())
    }

    #[test]
    fn each_conduit_and_each_node_has_the_lowest_free_prefix() {
        let tree = Tree::new("t");
        tree.add_conduit("c1").unwrap();
        tree.add_conduit("c2").unwrap();
        tree.add_conduit("c1").unwrap();
        let table = [
            ("c1", "n1", "bridge", Family::V4, "169.255.0.1/24"),
            ("c1", "n2", "bridge", Family::V4, "169.255.1.1/24"),
            ("c2", "n1", "bridge", Family::V4, "169.255.16.1/24"),
            ("c1", "n1", "bridge", Family::V6, "fd00::1/64"),
            ("c1", "n2", "bridge", Family::V6, "fd00:0:0:1::1/64"),
            ("c2", "n1", "bridge", Family::V6, "fd00:0:0:100::1/64"),
            ("c3", "n1", "bridge", Family::V4, "no conduit `c3`"),
        ];
        for (conduit, node, child, family, expected) in table {
            assert_eq!(allocate(&tree, conduit, node, child, family), expected);
        }
        tree.remove_conduit("c1");
        assert_eq!(tree.children().len(), 2, "its addresses go with it");
        tree.add_conduit("c3").unwrap();
        assert_eq!(allocate(&tree, "c3", "n1", "a", Family::V4), "169.255.0.1/24");
    }

    #[test]
    fn a_trench_has_16_ipv4_conduits_with_16_nodes() {
        let tree = Tree::new("t");
        for n in 0..16 {
            tree.add_conduit(&n.to_string()).unwrap();
            assert!(allocate(&tree, "0", &n.to_string(), "a", Family::V4).ends_with(".1/24"));
        }
        assert_eq!(tree.add_conduit("16"), Err(TreeError::Exhausted));
        assert_eq!(allocate(&tree, "0", "16", "a", Family::V4), NO_MORE_PREFIX);
    }

    #[test]
    fn a_family_without_a_pool_is_refused() {
        let tree = Tree::with_pools("t", Dual { v4: None, v6: Some(Pool::default_of(Family::V6)) });
        tree.add_conduit("c").unwrap();
        assert_eq!(allocate(&tree, "c", "n", "a", Family::V4), "cannot allocate in this ip family");
        assert_eq!(allocate(&tree, "c", "n", "a", Family::V6), "fd00::1/64");
    }

    #[test]
    fn a_release_on_an_unknown_node_makes_the_node_as_meridios_does() {
        let tree = Tree::new("t");
        tree.add_conduit("c").unwrap();
        tree.release(&at("c", "n1"), "a", Family::V4);
        assert_eq!(allocate(&tree, "c", "n2", "a", Family::V4), "169.255.1.1/24");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_conduit_is_waited_for() {
        let tree = Tree::new("t");
        let place = at("c", "n");
        let added = std::time::Duration::from_secs(3);
        let wait = async {
            tree.configured(&place).await;
            tree.allocate(&place, "a", Family::V4).unwrap()
        };
        let add = async {
            tokio::time::sleep(added).await;
            tree.add_conduit("c").unwrap();
        };
        let (net, ()) = tokio::time::timeout(2 * added, async { tokio::join!(wait, add) }).await.unwrap();
        assert_eq!(net.to_string(), "169.255.0.1/24");
    }
}
