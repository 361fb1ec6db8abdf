// SPDX-License-Identifier: Apache-2.0

//! Check the sysctls that the data plane depends on, and say what a wrong one breaks.
//!
//! They are set by a privileged init container; this process only reads `/proc/sys`, in the network namespace of the thread.

use std::{fmt, fs, io, path::Path};

use crate::api::Family;

/// A sysctl that is needed.
struct Needed {
    family: Family,
    key: &'static str,
    value: &'static str,
    breaks: &'static str,
    /// Absent means that nothing is wrong.
    optional: bool,
}

const NEEDED: [Needed; 9] = {
    use Family::{V4, V6};
    [
        needed(
            V4,
            "net.ipv4.conf.all.forwarding",
            "1",
            "no IPv4 packet of a target is forwarded to a load balancer",
        ),
        needed(
            V4,
            "net.ipv4.fib_multipath_hash_policy",
            "1",
            "all flows between two addresses take one load balancer",
        ),
        needed(
            V4,
            "net.ipv4.conf.all.rp_filter",
            "0",
            "packets from VIPs are dropped, as no route leads back to them",
        ),
        needed(
            V4,
            "net.ipv4.conf.default.rp_filter",
            "0",
            "packets from VIPs are dropped on links made later",
        ),
        needed(
            V6,
            "net.ipv6.conf.all.forwarding",
            "1",
            "no IPv6 packet of a target is forwarded to a load balancer",
        ),
        needed(
            V6,
            "net.ipv6.fib_multipath_hash_policy",
            "1",
            "all flows between two addresses take one load balancer",
        ),
        needed(
            V6,
            "net.ipv6.conf.all.accept_dad",
            "0",
            "IPv6 addresses of new links are unusable for a second or more",
        ),
        optional(
            V4,
            "net.bridge.bridge-nf-call-iptables",
            "0",
            "iptables rules of the pod apply to bridged packets",
        ),
        optional(
            V6,
            "net.bridge.bridge-nf-call-ip6tables",
            "0",
            "ip6tables rules of the pod apply to bridged packets",
        ),
    ]
};

const fn needed(family: Family, key: &'static str, value: &'static str, breaks: &'static str) -> Needed {
    Needed { family, key, value, breaks, optional: false }
}

const fn optional(family: Family, key: &'static str, value: &'static str, breaks: &'static str) -> Needed {
    Needed { family, key, value, breaks, optional: true }
}

/// A sysctl that is not as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSysctl {
    /// Its name, with dots.
    pub key: &'static str,
    /// Its value, or why it cannot be read.
    pub value: Result<String, io::ErrorKind>,
    /// The value that is needed.
    pub needed: &'static str,
    /// What does not work with this value.
    pub breaks: &'static str,
}

/// The sysctls that are not as some families need them.
pub fn wrong_sysctls(families: &[Family]) -> Vec<WrongSysctl> {
    wrong_under(Path::new("/proc/sys"), families)
}

fn wrong_under(root: &Path, families: &[Family]) -> Vec<WrongSysctl> {
    let check = |needed: &Needed| {
        let read = fs::read_to_string(root.join(needed.key.replace('.', "/")));
        let value = read.map(|text| text.trim().to_owned()).map_err(|error| error.kind());
        let right = match &value {
            Ok(value) => value == needed.value,
            Err(kind) => needed.optional && *kind == io::ErrorKind::NotFound,
        };
        (!right).then_some(WrongSysctl {
            key: needed.key,
            value,
            needed: needed.value,
            breaks: needed.breaks,
        })
    };
    NEEDED.iter().filter(|needed| families.contains(&needed.family)).filter_map(check).collect()
}

impl fmt::Display for WrongSysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, needed, breaks } = self;
        match value {
            Ok(value) => write!(f, "{key} is {value}, needed is {needed}: {breaks}"),
            Err(kind) => write!(f, "{key} cannot be read ({kind}), needed is {needed}: {breaks}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for needed in NEEDED.iter().filter(|needed| !needed.optional) {
            set(root.path(), needed.key, needed.value);
        }
        root
    }

    fn set(root: &Path, key: &str, value: &str) {
        let path = root.join(key.replace('.', "/"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    #[test]
    fn nothing_is_wrong_when_all_are_as_needed() {
        assert_eq!(wrong_under(root().path(), &Family::BOTH), []);
    }

    #[test]
    fn each_one_that_is_wrong_is_named_with_what_it_breaks_for_its_family_only() {
        for needed in &NEEDED {
            let root = root();
            set(root.path(), needed.key, "7");
            let wrong = wrong_under(root.path(), &Family::BOTH);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            let text = wrong[0].to_string();
            let expected = format!("{} is 7, needed is {}: {}", needed.key, needed.value, needed.breaks);
            assert_eq!(text, expected);
            let others: Vec<Family> =
                Family::BOTH.into_iter().filter(|family| *family != needed.family).collect();
            assert_eq!(wrong_under(root.path(), &others), []);
        }
    }

    #[test]
    fn one_that_cannot_be_read_is_wrong_unless_it_may_be_absent() {
        let empty = tempfile::tempdir().unwrap();
        let wrong = wrong_under(empty.path(), &Family::BOTH);
        assert_eq!(wrong.len(), NEEDED.iter().filter(|needed| !needed.optional).count());
        assert!(wrong.iter().all(|wrong| wrong.value == Err(io::ErrorKind::NotFound)));
    }
}
