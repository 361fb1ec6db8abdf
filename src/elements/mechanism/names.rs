// SPDX-License-Identifier: Apache-2.0

//! Chooses interface names that are not in use.
//!
//! 1. A name is up to ten characters of the network service, a dash, and random letters and digits
//!    up to 15 characters. The load balancer relies on the first part.
//! 2. Characters that an interface name cannot have are left out. If none is left, the first part
//!    is `nsm`.
//! 3. The name of another connection is not chosen, nor that of a link that no connection made.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::Rng;

use crate::api::InterfaceName;

/// Attempts to find a free name. With four random characters the first one is free in practice.
const TRIES: usize = 64;
/// Number of characters taken from the network service.
const FROM_SERVICE: usize = 10;

/// Names of the links that connections have in this network namespace. Clones share them.
///
/// ```
/// # use nsm::elements::mechanism::Names;
/// let names = Names::new(|name| name.as_str() == "eth0");
/// let claim = names.choose("load-balancer.trench.default")?;
/// assert!(claim.name().as_str().starts_with("load-balan-"));
/// assert!(names.claim(claim.name()).is_err(), "it is in use");
/// drop(claim);
/// assert!(names.is_empty());
/// # Ok::<_, nsm::elements::mechanism::Taken>(())
/// ```
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    claimed: Mutex<HashSet<InterfaceName>>,
    foreign: Box<dyn Fn(&InterfaceName) -> bool + Send + Sync>,
}

/// A name, claimed for as long as this lives.
pub struct Claim {
    name: InterfaceName,
    names: Names,
}

/// The reason why a name is not available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Another connection has this name. Use another, or leave it out.
    #[error("interface name `{0}` is that of another connection (accepted: a name of your own, or none)")]
    Claimed(InterfaceName),
    /// A link of this name was not made for a connection; it is the primary interface, the bridge,
    /// or another program's.
    #[error(
        "interface name `{0}` is that of a link which belongs to no connection (accepted: another name, or none)"
    )]
    Foreign(InterfaceName),
    /// No free name was found in many attempts.
    #[error("found no free interface name for network service `{0}`")]
    NoneFree(String),
}

impl Names {
    /// No names claimed yet, in the namespace of a pod: loopback and the devices of its primary
    /// network belong to no connection.
    pub fn of_pod() -> Self {
        Self::new(super::primary::is_foreign)
    }

    /// No names claimed yet. `foreign` returns whether a link of that name exists that no
    /// connection made; it must not block.
    pub fn new(foreign: impl Fn(&InterfaceName) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { claimed: Mutex::default(), foreign: Box::new(foreign) }))
    }

    /// Claims a name that the peer or the caller chose.
    ///
    /// # Errors
    /// [`Taken::Claimed`], [`Taken::Foreign`] (rule 3).
    pub fn claim(&self, name: &InterfaceName) -> Result<Claim, Taken> {
        if (self.0.foreign)(name) {
            return Err(Taken::Foreign(name.clone()));
        }
        if !self.lock().insert(name.clone()) {
            return Err(Taken::Claimed(name.clone()));
        }
        Ok(Claim { name: name.clone(), names: self.clone() })
    }

    /// Chooses and claims a name for a link of a network service.
    ///
    /// # Errors
    /// [`Taken::NoneFree`].
    pub fn choose(&self, service: &str) -> Result<Claim, Taken> {
        let mut random = rand::rng();
        let tries = (0..TRIES).filter_map(|_| candidate(service, &mut random).parse().ok());
        let free = tries.filter_map(|name| self.claim(&name).ok()).next();
        free.ok_or_else(|| Taken::NoneFree(service.chars().take(64).collect()))
    }

    /// Number of names claimed.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no name is claimed.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<InterfaceName>> {
        self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The name.
    pub fn name(&self) -> &InterfaceName {
        &self.name
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

/// Rules 1 and 2.
fn candidate(service: &str, random: &mut impl Rng) -> String {
    let mut name: String = service
        .chars()
        .filter(|c| c.is_ascii_graphic() && *c != '/' && *c != ':')
        .take(FROM_SERVICE)
        .collect();
    if name.is_empty() {
        name.push_str("nsm");
    }
    name.push('-');
    let more = InterfaceName::MAX - name.len();
    name.extend(random.sample_iter(rand::distr::Alphanumeric).take(more).map(char::from));
    name
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b27_a_name_starts_with_the_service_and_has_15_characters() {
        for (service, start) in [
            ("load-balancer.trench.ns", "load-balan-"),
            ("proxy.load-balancer", "proxy.load-"),
            ("short", "short-"),
            ("", "nsm-"),
            ("ünïcode", "ncode-"),
            ("a/b:c d", "abcd-"),
            ("////", "nsm-"),
        ] {
            let name = candidate(service, &mut rand::rng());
            assert!(name.starts_with(start) && name.len() == 15, "{service}: {name}");
            assert!(name.parse::<InterfaceName>().is_ok(), "{service}: {name}");
        }
    }

    #[test]
    fn a_name_has_one_owner_and_is_free_after_it() {
        let names = Names::new(|name| name.as_str() == "eth0");
        let name = "nsm-1".parse().unwrap();
        let claim = names.claim(&name).unwrap();
        assert_eq!(names.claim(&name).err(), Some(Taken::Claimed(name.clone())));
        drop(claim);
        assert!(names.claim(&name).is_ok());
        let primary = "eth0".parse().unwrap();
        assert_eq!(names.claim(&primary).err(), Some(Taken::Foreign(primary)));
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn where_every_name_is_taken_the_error_names_the_service() {
        let error = Names::new(|_| true).choose("lb").err().unwrap();
        assert_eq!(error.to_string(), "found no free interface name for network service `lb`");
    }
}
