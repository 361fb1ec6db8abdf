// SPDX-License-Identifier: Apache-2.0

//! Checks the sysctls on which the data plane depends, and names the effect of each wrong one.
//!
//! A privileged init container sets them; this process only reads `/proc/sys`, in the network
//! namespace of the thread. The reconciler checks them at start and at every resync, and more often
//! while one is wrong.

mod check;
mod needed;

use std::{fmt, fs, io, path::Path};

pub(super) use self::check::Check;
use self::needed::{NEEDED, Needed};
use crate::api::{Family, InterfaceName};

/// A sysctl whose value is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSysctl {
    /// The family whose packets it concerns.
    pub family: Family,
    /// Its name, with dots.
    pub key: String,
    /// Its value, or why it cannot be read.
    pub value: Result<String, io::ErrorKind>,
    /// The value that is needed.
    pub needed: &'static str,
    /// The function that fails with this value.
    pub breaks: &'static str,
    /// With this value, no packet of the family is forwarded.
    pub stops: bool,
}

/// The sysctls of all interfaces and of the bridge whose values are wrong for some families. One of
/// the bridge is not listed beside the one of all interfaces.
pub fn wrong_sysctls(families: &[Family], bridge: &InterfaceName) -> Vec<WrongSysctl> {
    wrong_under(Path::new("/proc/sys"), families, bridge)
}

fn wrong_under(root: &Path, families: &[Family], bridge: &InterfaceName) -> Vec<WrongSysctl> {
    let mut wrong: Vec<WrongSysctl> = Vec::new();
    for needed in NEEDED.iter().filter(|needed| families.contains(&needed.family)) {
        let of_all = needed.key.replace(needed::BRIDGE, "all");
        if of_all == needed.key || wrong.iter().all(|other| other.key != of_all) {
            wrong.extend(check(root, needed, bridge));
        }
    }
    wrong
}

fn check(root: &Path, needed: &Needed, bridge: &InterfaceName) -> Option<WrongSysctl> {
    let parts = needed.key.split('.').map(|part| if part == needed::BRIDGE { bridge.as_str() } else { part });
    let read = fs::read_to_string(root.join(parts.collect::<std::path::PathBuf>()));
    let value = read.map(|text| text.trim().to_owned()).map_err(|error| error.kind());
    let right = match &value {
        Ok(value) => value == needed.value,
        Err(kind) => needed.may_be_absent && *kind == io::ErrorKind::NotFound,
    };
    (!right).then(|| WrongSysctl {
        family: needed.family,
        key: needed.key.replace(needed::BRIDGE, bridge.as_str()),
        stops: needed.stops_with.is_some_and(|stops| value.as_deref() == Ok(stops)),
        value,
        needed: needed.value,
        breaks: needed.breaks,
    })
}

impl fmt::Display for WrongSysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, needed, breaks, .. } = self;
        match value {
            Ok(value) => write!(f, "{key} is {value}, needed is {needed}: {breaks}"),
            Err(kind) => write!(f, "{key} cannot be read ({kind}), needed is {needed}: {breaks}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge() -> InterfaceName {
        "bridge0".parse().unwrap()
    }

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for needed in NEEDED.iter().filter(|needed| !needed.may_be_absent) {
            set(root.path(), needed.key, needed.value);
        }
        root
    }

    fn set(root: &Path, key: &str, value: &str) {
        let path = root.join(key.replace('.', "/").replace(needed::BRIDGE, "bridge0"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }

    #[test]
    fn nothing_is_wrong_when_all_are_as_needed() {
        assert_eq!(wrong_under(root().path(), &Family::BOTH, &bridge()), []);
    }

    #[test]
    fn a_wrong_sysctl_is_reported_for_its_family_with_its_effect() {
        for needed in &NEEDED {
            let root = root();
            set(root.path(), needed.key, "7");
            let wrong = wrong_under(root.path(), &Family::BOTH, &bridge());
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            let key = needed.key.replace(needed::BRIDGE, "bridge0");
            let expected = format!("{key} is 7, needed is {}: {}", needed.value, needed.breaks);
            assert_eq!((wrong[0].to_string(), wrong[0].stops), (expected, false));
            let others: Vec<Family> =
                Family::BOTH.into_iter().filter(|family| *family != needed.family).collect();
            assert_eq!(wrong_under(root.path(), &others, &bridge()), []);
        }
    }

    #[test]
    fn a_value_that_stops_all_packets_is_known_as_such() {
        let stopping = [
            ("net.ipv4.conf.all.forwarding", "0"),
            ("net.ipv4.conf.all.rp_filter", "1"),
            ("net.ipv6.conf.all.forwarding", "0"),
            ("net.ipv6.conf.all.disable_ipv6", "1"),
        ];
        for (key, value) in stopping {
            for key in [key.to_owned(), key.replace(".all.", ".BRIDGE.")] {
                if NEEDED.iter().any(|needed| needed.key == key) {
                    let root = root();
                    set(root.path(), &key, value);
                    let wrong = wrong_under(root.path(), &Family::BOTH, &bridge());
                    assert!(matches!(&wrong[..], [WrongSysctl { stops: true, .. }]), "{wrong:?}");
                }
            }
        }
    }

    #[test]
    fn one_of_the_bridge_is_not_named_beside_that_of_all_interfaces() {
        let root = root();
        for key in ["net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.BRIDGE.disable_ipv6"] {
            set(root.path(), key, "1");
        }
        let keys = |wrong: Vec<WrongSysctl>| wrong.into_iter().map(|wrong| wrong.key).collect::<Vec<_>>();
        let wrong = keys(wrong_under(root.path(), &Family::BOTH, &bridge()));
        assert_eq!(wrong, ["net.ipv6.conf.all.disable_ipv6"]);
        set(root.path(), "net.ipv6.conf.all.disable_ipv6", "0");
        let wrong = keys(wrong_under(root.path(), &Family::BOTH, &bridge()));
        assert_eq!(wrong, ["net.ipv6.conf.bridge0.disable_ipv6"]);
    }

    #[test]
    fn one_that_cannot_be_read_is_wrong_unless_it_may_be_absent() {
        let empty = tempfile::tempdir().unwrap();
        let wrong = wrong_under(empty.path(), &Family::BOTH, &bridge());
        assert_eq!(wrong.len(), NEEDED.iter().filter(|needed| !needed.may_be_absent).count());
        assert!(wrong.iter().all(|wrong| wrong.value == Err(io::ErrorKind::NotFound) && !wrong.stops));
    }
}
