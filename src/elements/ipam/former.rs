// SPDX-License-Identifier: Apache-2.0

//! Addresses that a load balancer keeps after the address service has moved it to others.
//!
//! Targets move after the load balancers. Until the last one has moved, a load balancer reaches it
//! only by an address in the former subnet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::watch, time::timeout};

use crate::{api::Dual, ipam::Status};

/// Maximum number of former addresses of a connection, of both families.
const MAX_FORMER: usize = 8;
/// Time between the last lease that moves and the end of the former addresses. In this time the
/// link of a target with new addresses is made, the target reports them, and the load balancers
/// read them.
const REPORTED: Duration = Duration::from_secs(5);

/// Former addresses of a load balancer, in subnets in which it has no other.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    nets: Vec<IpNet>,
    over: Arc<AtomicBool>,
}

impl Former {
    /// The former addresses after a link with the addresses `before` has got those of `now`.
    pub(super) fn after(&self, before: &Dual<IpNet>, now: &Dual<IpNet>) -> Self {
        let kept = if self.over.load(Ordering::Relaxed) { &[][..] } else { &self.nets };
        let mut nets: Vec<IpNet> = before.iter().map(|(_, net)| *net).collect();
        nets.extend(kept.iter().filter(|net| before.iter().all(|(_, before)| before != *net)));
        nets.retain(|net| now.iter().all(|(_, now)| now.trunc() != net.trunc()));
        nets.truncate(MAX_FORMER);
        if nets == self.nets { self.clone() } else { Self { nets, over: Arc::default() } }
    }

    /// The addresses, the latest first.
    pub(super) fn nets(&self) -> &[IpNet] {
        &self.nets
    }

    /// Waits until no lease is left in their subnets: from then on they are not kept. Never returns
    /// if there are none.
    pub(super) async fn left(&self, mut status: watch::Receiver<Status>) {
        let used = |status: &Status| self.nets.iter().any(|net| status.subnets.contains_key(&net.trunc()));
        if self.nets.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if status.wait_for(|status| !used(status)).await.is_err() {
                return std::future::pending().await;
            }
            if timeout(REPORTED, status.wait_for(used)).await.is_err() {
                return self.over.store(true, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual(v4: &str, v6: &str) -> Dual<IpNet> {
        Dual { v4: v4.parse().ok(), v6: v6.parse().ok() }
    }

    #[test]
    fn addresses_are_kept_in_subnets_without_another() {
        let a = dual("172.16.1.6/24", "fd00:0:0:1::6/64");
        let b = dual("172.16.2.6/24", "fd00:0:0:1::9/64");
        let c = dual("172.16.3.6/24", "fd00:0:0:3::6/64");
        let text = |former: &Former| former.nets().iter().map(ToString::to_string).collect::<Vec<_>>();
        let none = Former::default();
        assert!(text(&none.after(&a, &a)).is_empty(), "nothing has moved");
        let moved = none.after(&a, &b);
        assert_eq!(text(&moved), ["172.16.1.6/24"]);
        assert_eq!(text(&moved.after(&b, &b)), ["172.16.1.6/24"], "a refresh");
        let twice = moved.after(&b, &c);
        assert_eq!(text(&twice), ["172.16.2.6/24", "fd00:0:0:1::9/64", "172.16.1.6/24"]);
        assert_eq!(text(&twice.after(&c, &a)), ["172.16.3.6/24", "fd00:0:0:3::6/64", "172.16.2.6/24"]);
        twice.over.store(true, Ordering::Relaxed);
        assert!(text(&twice.after(&c, &c)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn they_end_some_time_after_the_last_lease_has_left() {
        let former = Former::default().after(&dual("172.16.1.6/24", ""), &dual("172.16.2.6/24", ""));
        let subnet: IpNet = "172.16.1.0/24".parse().unwrap();
        let status = watch::Sender::new(Status { subnets: [(subnet, 2)].into(), ..Status::default() });
        let mut left = std::pin::pin!(former.left(status.subscribe()));
        assert!(timeout(Duration::from_secs(600), &mut left).await.is_err(), "two targets are there");
        status.send_modify(|status| status.subnets.clear());
        assert!(timeout(REPORTED / 2, &mut left).await.is_err());
        status.send_modify(|status| _ = status.subnets.insert(subnet, 1));
        assert!(timeout(Duration::from_secs(600), &mut left).await.is_err(), "one more");
        status.send_modify(|status| status.subnets.clear());
        timeout(REPORTED * 2, left).await.unwrap();
        assert!(former.over.load(Ordering::Relaxed));
    }
}
