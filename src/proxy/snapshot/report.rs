// SPDX-License-Identifier: Apache-2.0
//! Reports in health the state that is still that of an earlier process.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    ipam,
    proxy::{
        health::{Health, Part},
        vips::Vips,
    },
};

/// Source of these degradations.
const SOURCE: &str = "snapshot";
/// Time for IPAM to confirm the leases in use. Each target that returns has one that is not
/// confirmed for the time of a call; that alone is no degradation.
const CONFIRMATION: Duration = Duration::from_secs(1);
/// Degradation of IPAM while it does not confirm a lease in use.
const LEASES: &str = "addresses of an earlier process are in use that IPAM has not confirmed";
/// Degradation of NSP until its first answer.
const VIPS: &str = "the VIPs are those of an earlier process, NSP has not answered";

/// Reports on every change, until the leases or the VIPs end.
pub async fn report(
    mut leases: watch::Receiver<ipam::Status>,
    mut vips: watch::Receiver<Vips>,
    health: Health,
) {
    let mut due = None;
    loop {
        let unconfirmed = leases.borrow_and_update().unverified > 0;
        let restored = vips.borrow_and_update().restored;
        due = unconfirmed.then(|| due.unwrap_or_else(|| Instant::now() + CONFIRMATION));
        let late = due.is_some_and(|due| due <= Instant::now());
        health.degrade(Part::Ipam, SOURCE, late.then(|| LEASES.to_owned()));
        health.degrade(Part::Nsp, SOURCE, restored.then(|| VIPS.to_owned()));
        let changed = tokio::select! {
            changed = leases.changed() => changed,
            changed = vips.changed() => changed,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && !late => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::task::Tasks;

    #[tokio::test(start_paused = true)]
    async fn restored_state_is_named_until_its_service_answers() {
        let health = Health::default();
        let tasks = Tasks::default();
        let leases = watch::Sender::new(ipam::Status { unverified: 2, ..ipam::Status::default() });
        let vips = watch::Sender::new(Vips { restored: true, ..Vips::default() });
        tasks.spawn(report(leases.subscribe(), vips.subscribe(), health.clone()));
        let mut board = health.subscribe();
        let degraded = |part: Part| health.of(part.name()).unwrap().degraded;
        board.wait_for(|board| !board.part(Part::Ipam).degraded.is_empty()).await.unwrap();
        assert_eq!((degraded(Part::Ipam), degraded(Part::Nsp)), (vec![LEASES.into()], vec![VIPS.into()]));
        leases.send_modify(|status| status.unverified = 0);
        board.wait_for(|board| board.part(Part::Ipam).degraded.is_empty()).await.unwrap();
        assert_eq!(degraded(Part::Nsp), [VIPS]);
        vips.send_modify(|vips| vips.restored = false);
        board.wait_for(|board| board.part(Part::Nsp).degraded.is_empty()).await.unwrap();
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn leases_that_are_confirmed_in_time_are_no_degradation() {
        let health = Health::default();
        let tasks = Tasks::default();
        let leases = watch::Sender::new(ipam::Status::default());
        let vips = watch::Sender::new(Vips::default());
        tasks.spawn(report(leases.subscribe(), vips.subscribe(), health.clone()));
        let mut board = health.subscribe();
        let degraded = board.wait_for(|board| !board.part(Part::Ipam).degraded.is_empty());
        let targets = async {
            for _target in 0..100 {
                leases.send_modify(|status| status.unverified = 1);
                sleep(CONFIRMATION / 2).await;
                leases.send_modify(|status| status.unverified = 0);
                sleep(CONFIRMATION).await;
            }
        };
        tokio::select! {
            _ = degraded => panic!("a lease is confirmed in time"),
            () = targets => {}
        }
        leases.send_modify(|status| status.unverified = 1);
        let since = Instant::now();
        board.wait_for(|board| !board.part(Part::Ipam).degraded.is_empty()).await.unwrap();
        assert_eq!(since.elapsed(), CONFIRMATION);
        tasks.stop().await;
    }
}
