// SPDX-License-Identifier: Apache-2.0
//! Checks the capability to configure the network, and raises the permitted capabilities.
//!
//! In a container that does not run as root, NET_ADMIN is only in the permitted set if the binary
//! has the file capability `=p` (with `=ep` it could not even start where a capability is missing).
//! So permitted capabilities are made effective here. Capabilities belong to a thread and are
//! inherited: call [`raise`] before the runtime starts its threads.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Why the network cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// NET_ADMIN is not permitted.
    #[error(
        "CAP_NET_ADMIN is missing, without which links, routes and rules cannot be set \
         (run as root, or add NET_ADMIN to the container's capabilities and to the file: setcap cap_net_admin=p)"
    )]
    NetAdmin,
    /// The kernel refuses to read or set capabilities; a seccomp profile may forbid it.
    #[error("cannot use capabilities")]
    Kernel(#[from] io::Error),
}

/// Optional capabilities of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// NET_RAW: addresses can be announced to neighbours.
    pub net_raw: bool,
}

/// Makes NET_ADMIN, and NET_RAW if permitted, effective for this thread and its children.
///
/// # Errors
/// [`CapabilityError`]; the proxy cannot work then.
pub fn raise() -> Result<Capabilities, CapabilityError> {
    let before = capabilities(None).map_err(io::Error::from)?;
    let (after, found) = wanted(before)?;
    if after.effective != before.effective {
        set_capabilities(None, after).map_err(io::Error::from)?;
    }
    Ok(found)
}

/// The sets to use, given the present ones.
fn wanted(sets: CapabilitySets) -> Result<(CapabilitySets, Capabilities), CapabilityError> {
    if !sets.permitted.contains(CapabilitySet::NET_ADMIN) {
        return Err(CapabilityError::NetAdmin);
    }
    let usable = sets.permitted & (CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
    let found = Capabilities { net_raw: usable.contains(CapabilitySet::NET_RAW) };
    Ok((CapabilitySets { effective: sets.effective | usable, ..sets }, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permitted_capabilities_become_effective() {
        let admin = CapabilitySet::NET_ADMIN;
        let raw = CapabilitySet::NET_RAW;
        let chown = CapabilitySet::CHOWN;
        let none = CapabilitySet::empty();
        // permitted, effective before, effective after and NET_RAW; or an error
        let table = [
            (none, none, None),
            (raw, raw, None),
            (admin, none, Some((admin, false))),
            (admin, admin, Some((admin, false))),
            (admin | raw, none, Some((admin | raw, true))),
            (admin | raw | chown, chown, Some((admin | raw | chown, true))),
            (admin | chown, none, Some((admin, false))),
        ];
        for (permitted, effective, expected) in table {
            let sets = CapabilitySets { effective, permitted, inheritable: none };
            let got = wanted(sets).ok().map(|(after, found)| {
                assert_eq!((after.permitted, after.inheritable), (permitted, none));
                (after.effective, found.net_raw)
            });
            assert_eq!(got, expected, "{permitted:?} {effective:?}");
        }
    }

    #[test]
    fn a_missing_capability_is_named_with_its_remedy() {
        let text = CapabilityError::NetAdmin.to_string();
        assert!(text.contains("CAP_NET_ADMIN") && text.contains("setcap"), "{text}");
    }
}
