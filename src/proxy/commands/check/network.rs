// SPDX-License-Identifier: Apache-2.0

//! Checks of the network namespace: netlink, sysctls, MTUs.

use super::Finding;
use crate::{
    kernel::{self, Dump, Interface, Ours, WrongSysctl, wrong_sysctls},
    proxy::config::Config,
};

pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let ours = Ours::default();
    let wrong = wrong_sysctls(config.families, &ours.bridge);
    let mut findings: Vec<_> = wrong.iter().map(sysctl).collect();
    if wrong.is_empty() {
        findings.push(Finding::ok("sysctls", "as needed"));
    }
    match kernel::dump().await {
        Ok(Dump { interfaces, .. }) => findings.push(mtu(&interfaces, ours.bridge.as_str(), config.mtu)),
        Err(refusal) => {
            let breaks = "the kernel cannot be read: the proxy does not start";
            let repair = "allow socket(AF_NETLINK) in the seccomp profile";
            findings.push(Finding::failed("netlink", refusal.to_string(), breaks, repair));
        }
    }
    findings
}

fn sysctl(wrong: &WrongSysctl) -> Finding {
    let value = match &wrong.value {
        Ok(value) => value.clone(),
        Err(kind) => format!("unreadable: {kind}"),
    };
    let found = format!("{} = {value}", wrong.key);
    let repair = format!("in the init container: sysctl -w {}={}", wrong.key, wrong.needed);
    match wrong.stops {
        true => Finding::failed("sysctls", found, wrong.breaks, repair),
        false => Finding::warning("sysctls", found, wrong.breaks, repair),
    }
}

/// The ports of the bridge have the MTU of the configuration.
fn mtu(interfaces: &[Interface], bridge: &str, wanted: u32) -> Finding {
    let bridge = interfaces.iter().find(|link| link.name == bridge).map(|link| link.index);
    let ports = interfaces.iter().filter(|link| bridge == Some(link.master_index));
    let other: Vec<_> = ports
        .filter(|link| link.mtu != wanted)
        .map(|link| format!("{} has {}", link.name, link.mtu))
        .collect();
    if other.is_empty() {
        return Finding::ok("mtu", format!("{wanted} on every port"));
    }
    Finding::warning(
        "mtu",
        format!("NSM_MTU is {wanted}, {}", other.join(", ")),
        "packets larger than the smallest MTU are lost where ICMP is filtered",
        "set one NSM_MTU for the proxy, targets and load balancers, at most that of the node's network",
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{super::State, *};
    use crate::api::Family;

    #[test]
    fn a_wrong_sysctl_has_the_line_that_repairs_it() {
        let wrong = |stops, value| WrongSysctl {
            family: Family::V4,
            key: "net.ipv4.conf.all.forwarding".into(),
            value,
            needed: "1",
            breaks: "nothing is forwarded",
            stops,
        };
        let finding = sysctl(&wrong(true, Ok("0".into())));
        assert_eq!((finding.state, &*finding.found), (State::Failed, "net.ipv4.conf.all.forwarding = 0"));
        assert!(finding.repair.ends_with("sysctl -w net.ipv4.conf.all.forwarding=1"), "{finding:?}");
        let unreadable = sysctl(&wrong(false, Err(io::ErrorKind::NotFound)));
        assert_eq!(unreadable.state, State::Warning);
    }

    #[test]
    fn a_port_with_another_mtu_is_named() {
        let link = |index, name: &str, mtu, master_index| Interface {
            index,
            name: name.into(),
            mtu,
            master_index,
            ..Interface::default()
        };
        let links = [link(1, "bridge0", 1500, 0), link(2, "nsm-1", 1400, 1), link(3, "eth0", 9000, 0)];
        let finding = mtu(&links, "bridge0", 1500);
        assert!(finding.found.contains("nsm-1 has 1400") && !finding.found.contains("eth0"), "{finding:?}");
        assert_eq!(mtu(&links, "bridge0", 1400).state, State::Ok);
    }
}
