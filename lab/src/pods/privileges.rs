// SPDX-License-Identifier: Apache-2.0
//! Drops privileges of a thread, so that the process it starts has those of a pod's security
//! context.
//!
//! Credentials are a property of a thread in Linux. The thread ends after it has started the
//! process.

use std::{fs, io};

use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

/// The user of the proxy's image.
pub const PROXY_USER: u32 = 10005;

/// Changes to an ordinary user whose only capabilities are NET_ADMIN and NET_RAW, across `exec`
/// too.
///
/// # Errors
/// This thread lacks SETUID, SETGID or SETPCAP, or the user does not exist in this user namespace
/// (see [`has_user`]).
pub fn keep_network_capabilities(user: u32) -> io::Result<()> {
    let kept = CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    for capability in (CapabilitySet::all() - kept).iter() {
        // A kernel that does not have a capability refuses its number.
        let _ = remove_capability_from_bounding_set(capability);
    }
    set_keep_capabilities(true)?;
    let uid = Uid::from_raw(user);
    let gid = Gid::from_raw(user);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: kept })?;
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    set_no_new_privs(true)?;
    Ok(())
}

/// Whether a user exists in this user namespace. If an ordinary user runs the lab, there is only
/// that one.
pub fn has_user(user: u32) -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| maps(&map, user))
}

fn maps(map: &str, user: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(length))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        (first..first.saturating_add(length)).contains(&u64::from(user))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_exists_if_a_line_of_the_map_covers_it() {
        let table = [
            ("         0          0 4294967295\n", true),
            ("         0      65534          1\n", false),
            ("0 1000 1\n1 100000 65536\n", true),
            ("0 1000 1\n1 100000 10005\n", true),
            ("0 1000 1\n1 100000 10004\n", false),
            ("", false),
            ("banana", false),
        ];
        for (map, exists) in table {
            assert_eq!(maps(map, PROXY_USER), exists, "{map}");
        }
    }
}
