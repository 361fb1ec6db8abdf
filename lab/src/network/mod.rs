// SPDX-License-Identifier: Apache-2.0
//! Network namespaces, and the kernel objects in them.

pub mod addresses;
pub mod links;
pub mod netlink;
pub mod netns;
pub mod routes;
pub mod rules;

/// Requirement of a test that creates a namespace.
#[cfg(test)]
pub(crate) const NEEDS: &str = "root, or a user namespace (`lab exec`), for namespaces of its own";
