// SPDX-License-Identifier: Apache-2.0
//! Derives the health of `Egress`: whether targets' traffic can leave.
//!
//! 1. At least one connection to a load balancer is established and not being closed.
//! 2. In every enabled family the kernel has a next hop, as read back from it.
//! 3. A list of VIPs has been accepted, or none was refused. A list refused after an accepted one
//!    is only reported.
//! 4. No sysctl stops the traffic of an enabled family. Other wrong sysctls are only reported.
//!
//! A connection alone is not enough: its link may not have appeared, or the kernel may have refused
//! the route.

use tokio::sync::watch;

use super::{
    health::{Health, Part},
    mesh,
    vips::{MAX_VIPS, Vips},
};
use crate::{
    api::Family,
    elements::egress::Egress,
    kernel::{self, Degraded, WrongSysctl},
};

/// Maximum number of faults in a reason.
const FAULTS: usize = 4;

/// Reports the health of egress on every change of its inputs, until one of them ends.
pub(crate) async fn report(
    families: &'static [Family],
    egress: Egress,
    mut kernel: watch::Receiver<kernel::Status>,
    mut mesh: watch::Receiver<mesh::Status>,
    mut vips: watch::Receiver<Vips>,
    health: Health,
) {
    let mut count = egress.subscribe();
    loop {
        let connected = *count.borrow_and_update();
        let (verdict, sysctls) = {
            let kernel = kernel.borrow_and_update();
            let mesh = mesh.borrow_and_update();
            let sysctls: Vec<_> = wrong_sysctls(&kernel).cloned().collect();
            (verdict(families, connected, &kernel, &mesh), sysctls)
        };
        let verdict = with_sysctls(with_vips(verdict, &vips.borrow_and_update()), &sysctls);
        health.degrade(Part::Egress, "sysctls", sysctls.iter().map(ToString::to_string));
        match verdict {
            Ok(hops) => health.set(Part::Egress, true, hops),
            Err(reason) => health.set(Part::Egress, false, reason),
        }
        let changed = tokio::select! {
            changed = count.changed() => changed,
            changed = kernel.changed() => {
                if changed.is_err() {
                    health.set(Part::Egress, false, "the kernel is not reconciled any more");
                }
                changed
            }
            changed = mesh.changed() => changed,
            changed = vips.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Rules 1 and 2: the next hops, or the reason for having none.
fn verdict(
    families: &[Family],
    connected: usize,
    kernel: &kernel::Status,
    mesh: &mesh::Status,
) -> Result<String, String> {
    if connected == 0 {
        return Err(mesh.to_string());
    }
    let hops = |family: Family| kernel.next_hops.get(family).map_or(0, |hops| hops.len());
    if let Some(family) = families.iter().find(|family| hops(**family) == 0) {
        return Err(format!("no {family} next hop is installed: {}", why(*family, kernel)));
    }
    let counts: Vec<_> = families.iter().map(|family| format!("{} {family}", hops(*family))).collect();
    Ok(format!("next hops: {}", counts.join(", ")))
}

/// Why the kernel has no next hop of a family.
fn why(family: Family, kernel: &kernel::Status) -> String {
    let mut faults = kernel.faults().egress;
    faults.truncate(FAULTS);
    if !faults.is_empty() {
        return faults.join(", ");
    }
    match kernel.declared_next_hops().iter().any(|hop| Family::of(*hop) == family) {
        true => "it is being installed".to_owned(),
        false => format!("no load balancer has an {family} address"),
    }
}

/// Rule 3: the verdict by the other rules, with the reason why VIPs are missing.
fn with_vips(verdict: Result<String, String>, vips: &Vips) -> Result<String, String> {
    let Some(count) = vips.refused else { return verdict };
    let refused = format!("the list of {count} VIPs is refused (accepted: {MAX_VIPS})");
    match (verdict, &vips.list) {
        (Ok(hops), Some(_)) => Ok(format!("{hops}; {refused}, the last one stays")),
        (Ok(_), None) => Err(format!("no VIPs: {refused}")),
        (Err(reason), _) => Err(format!("{reason}; {refused}")),
    }
}

fn wrong_sysctls(kernel: &kernel::Status) -> impl Iterator<Item = &WrongSysctl> {
    kernel.degraded.iter().filter_map(|degraded| match degraded {
        Degraded::Sysctl(sysctl) => Some(sysctl),
        _ => None,
    })
}

/// Rule 4: the verdict by the other rules, unless a sysctl stops all traffic of a family.
fn with_sysctls(verdict: Result<String, String>, wrong: &[WrongSysctl]) -> Result<String, String> {
    let stops: Vec<_> = wrong.iter().filter(|sysctl| sysctl.stops).map(ToString::to_string).collect();
    match verdict {
        verdict if stops.is_empty() => verdict,
        Ok(_) => Err(stops.join(", ")),
        Err(reason) => Err(format!("{reason}; {}", stops.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::api::Dual;

    fn hops(v4: &[&str], v6: &[&str]) -> kernel::Status {
        let set =
            |texts: &[&str]| Some(texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>());
        let next_hops = Dual { v4: set(v4), v6: set(v6) };
        kernel::Status { next_hops, ..kernel::Status::default() }
    }

    /// A load balancer with a next hop on which no pass has reported yet.
    fn declared() -> kernel::Status {
        let hop = ("172.16.1.2".parse().unwrap(), Ok(()));
        let peer = kernel::Peer { next_hops: [hop].into(), ..kernel::Peer::default() };
        let peers = Arc::new([(kernel::PeerId::load_balancer("lb-1"), peer)].into());
        kernel::Status { peers, ..kernel::Status::default() }
    }

    #[test]
    fn l16_g28_egress_needs_a_connection_and_a_next_hop_per_family() {
        let (both, v4): (&[Family], &[Family]) = (&Family::BOTH, &[Family::V4]);
        // families, connections, next hops, and the reported text
        let table = [
            (both, 0, hops(&["172.16.1.2"], &["fd00::2"]), Err("load balancers not known yet")),
            (both, 1, hops(&[], &[]), Err("no IPv4 next hop")),
            (both, 1, hops(&["172.16.1.2"], &[]), Err("no IPv6 next hop")),
            (
                both,
                1,
                kernel::Status::default(),
                Err("no IPv4 next hop is installed: no load balancer has an IPv4 address"),
            ),
            (both, 1, declared(), Err("no IPv4 next hop is installed: it is being installed")),
            (both, 1, hops(&["172.16.1.2"], &["fd00::2"]), Ok("next hops: 1 IPv4, 1 IPv6")),
            (v4, 2, hops(&["172.16.1.2", "172.16.1.4"], &[]), Ok("next hops: 2 IPv4")),
        ];
        for (families, connected, kernel, expected) in table {
            match (verdict(families, connected, &kernel, &mesh::Status::default()), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected),
                (Err(got), Err(expected)) => assert!(got.starts_with(expected), "{got}"),
                (got, expected) => panic!("{got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_refused_first_list_of_vips_takes_egress_down() {
        let good = Ok("next hops: 1 IPv4".to_owned());
        let bad = Err("no IPv4 next hop".to_owned());
        let list = Some(["20.0.0.1/32".parse().unwrap()].into());
        let refused = Some(MAX_VIPS + 1);
        let text = "the list of 20001 VIPs is refused (accepted: 20000)";
        let table = [
            (&good, Vips::default(), good.clone()),
            (&good, Vips { list: list.clone(), ..Vips::default() }, good.clone()),
            (&good, Vips { refused, ..Vips::default() }, Err(format!("no VIPs: {text}"))),
            (
                &good,
                Vips { list, refused, ..Vips::default() },
                Ok(format!("next hops: 1 IPv4; {text}, the last one stays")),
            ),
            (&bad, Vips { refused, ..Vips::default() }, Err(format!("no IPv4 next hop; {text}"))),
        ];
        for (verdict, vips, expected) in table {
            assert_eq!(with_vips(verdict.clone(), &vips), expected, "{vips:?}");
        }
    }

    fn sysctl(key: &str, stops: bool) -> WrongSysctl {
        let family = Family::V4;
        let value = Ok("0".to_owned());
        WrongSysctl { family, key: key.to_owned(), value, needed: "1", breaks: "much", stops }
    }

    #[test]
    fn a_sysctl_takes_egress_down_only_if_it_stops_traffic() {
        let good = Ok("next hops: 1 IPv4".to_owned());
        let bad = Err("no IPv4 next hop".to_owned());
        let stops = sysctl("forwarding", true);
        let breaks = sysctl("hash_policy", false);
        let down = Err("forwarding is 0, needed is 1: much".to_owned());
        let both = Err("no IPv4 next hop; forwarding is 0, needed is 1: much".to_owned());
        let table = [
            (&good, vec![], good.clone()),
            (&good, vec![breaks.clone()], good.clone()),
            (&good, vec![breaks, stops.clone()], down),
            (&bad, vec![stops], both),
            (&bad, vec![], bad.clone()),
        ];
        for (verdict, wrong, expected) in table {
            assert_eq!(with_sysctls(verdict.clone(), &wrong), expected, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn l16_a_next_hop_missing_in_the_kernel_takes_egress_down() {
        let health = Health::default();
        let egress = Egress::default();
        let kernel = watch::Sender::new(hops(&["172.16.1.2"], &[]));
        let mesh = watch::Sender::new(mesh::Status::default());
        let vips = watch::Sender::new(Vips { refused: Some(MAX_VIPS + 1), ..Vips::default() });
        let egress = egress.clone();
        let seen = (kernel.subscribe(), mesh.subscribe(), vips.subscribe());
        let reporting = report(&[Family::V4], egress, seen.0, seen.1, seen.2, health.clone());
        let task = tokio::spawn(reporting);
        let mut board = health.subscribe();
        let reason = async |board: &mut watch::Receiver<crate::proxy::health::Board>, text: &str| {
            let wait = board.wait_for(|board| board.part(Part::Egress).reason.contains(text));
            let waited = tokio::time::timeout(std::time::Duration::from_secs(5), wait).await;
            waited.expect(text).unwrap().part(Part::Egress).serving
        };
        assert!(!reason(&mut board, "not known yet").await);
        kernel.send_replace(hops(&[], &[]));
        mesh.send_replace(mesh::Status { known: true, ..mesh::Status::default() });
        assert!(!reason(&mut board, "0 of 0").await);
        assert!(!reason(&mut board, "20001").await);
        drop(kernel);
        assert!(!reason(&mut board, "not reconciled any more").await);
        task.abort();
    }
}
