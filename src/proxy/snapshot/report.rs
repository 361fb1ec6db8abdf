// SPDX-License-Identifier: Apache-2.0
//! Reports in health the state that is still that of an earlier process.

use tokio::sync::watch;

use crate::{
    ipam,
    proxy::{
        health::{Health, Part},
        vips::Vips,
    },
};

/// Source of these degradations.
const SOURCE: &str = "snapshot";
/// Degradation of IPAM while it has not confirmed a lease in use.
const LEASES: &str = "addresses of an earlier process are in use that IPAM has not confirmed";
/// Degradation of NSP until its first answer.
const VIPS: &str = "the VIPs are those of an earlier process, NSP has not answered";

/// Reports on every change, until the leases or the VIPs end.
pub async fn report(
    mut leases: watch::Receiver<ipam::Status>,
    mut vips: watch::Receiver<Vips>,
    health: Health,
) {
    loop {
        let unconfirmed = leases.borrow_and_update().unverified > 0;
        let restored = vips.borrow_and_update().restored;
        health.degrade(Part::Ipam, SOURCE, unconfirmed.then(|| LEASES.to_owned()));
        health.degrade(Part::Nsp, SOURCE, restored.then(|| VIPS.to_owned()));
        let changed = tokio::select! {
            changed = leases.changed() => changed,
            changed = vips.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Tasks;

    #[tokio::test(start_paused = true)]
    async fn what_is_restored_is_named_until_its_service_answers() {
        let health = Health::default();
        let tasks = Tasks::default();
        let leases = watch::Sender::new(ipam::Status { unverified: 2, ..ipam::Status::default() });
        let vips = watch::Sender::new(Vips { restored: true, ..Vips::default() });
        tasks.spawn(report(leases.subscribe(), vips.subscribe(), health.clone()));
        let mut board = health.subscribe();
        let degraded = |part: Part| health.of(part.name()).unwrap().degraded;
        board.wait_for(|board| !board.part(Part::Nsp).degraded.is_empty()).await.unwrap();
        assert_eq!((degraded(Part::Ipam), degraded(Part::Nsp)), (vec![LEASES.into()], vec![VIPS.into()]));
        leases.send_modify(|status| status.unverified = 0);
        board.wait_for(|board| board.part(Part::Ipam).degraded.is_empty()).await.unwrap();
        assert_eq!(degraded(Part::Nsp), [VIPS]);
        vips.send_modify(|vips| vips.restored = false);
        board.wait_for(|board| board.part(Part::Nsp).degraded.is_empty()).await.unwrap();
        tasks.stop().await;
    }
}
