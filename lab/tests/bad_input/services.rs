// SPDX-License-Identifier: Apache-2.0

//! An IPAM, an NSP and a kernel that misbehave.

use std::time::Duration;

use nsm::{
    api::Family,
    ipam::{AllocateError, Fault},
};
use tokio::time::{Instant, sleep};
use tonic::Status;

use crate::{
    row::{Outcome, refreshed},
    target::{ask, ask_within, closed, new},
    world::{VIPS, World},
};

/// Connects while the IPAM has a fault.
async fn with(world: &World, fault: Fault) -> Result<Option<Status>, String> {
    world.ipam.faults().stand(fault);
    let told = ask_within(world, new("bad"), Duration::from_millis(500)).await.err();
    refreshed(world).await?;
    world.ipam.faults().clear();
    Ok(told)
}

/// All IPv4 addresses of the node are allocated, those of IPv6 are not.
pub(crate) async fn ipam_exhausted(world: &World) -> Outcome {
    let tree = world.ipam.tree();
    let subnet = world.subnet();
    let filler = |n: usize| format!("filler-{n}");
    let taken = (0..).take_while(|n| tree.allocate(&subnet, &filler(*n), Family::V4).is_ok()).count();
    let told = ask(world, new("bad")).await.err();
    refreshed(world).await?;
    (0..taken).for_each(|n| tree.release(&subnet, &filler(n), Family::V4));
    Ok(told)
}

/// It completes the call after the caller has gone.
pub(crate) async fn ipam_slow(world: &World) -> Outcome {
    with(world, Fault::Delay(Duration::from_secs(1))).await
}

/// Waits at most ten seconds until targets can connect again.
async fn back(world: &World) -> Result<(), String> {
    let started = Instant::now();
    loop {
        match ask(world, new("again")).await {
            Ok(answer) => return closed(world, &answer).await,
            Err(status) if started.elapsed() > Duration::from_secs(10) => return Err(status.to_string()),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) async fn ipam_down(world: &World) -> Outcome {
    world.stop_ipam();
    let told = ask(world, new("bad")).await.err();
    refreshed(world).await?;
    world.start_ipam().await;
    back(world).await?;
    Ok(told)
}

pub(crate) async fn ipam_refuses(world: &World) -> Outcome {
    with(world, Fault::Fail(AllocateError::Refused("no corresponding trench".into()))).await
}

pub(crate) async fn ipam_answers_a_word(world: &World) -> Outcome {
    with(world, Fault::Garble("banana".into(), 24)).await
}

pub(crate) async fn ipam_answers_a_megabyte(world: &World) -> Outcome {
    with(world, Fault::Garble("9".repeat(1 << 20), 24)).await
}

pub(crate) async fn ipam_answers_an_impossible_length(world: &World) -> Outcome {
    with(world, Fault::Garble("169.255.0.9".into(), 99)).await
}

/// Sends a list of VIPs twice, then one that shows in the log; a line with these texts must occur
/// once.
async fn listed(world: &World, more: &[(String, String)], once: &[&str]) -> Outcome {
    let standing = VIPS.map(|(name, address)| (name.to_owned(), address.to_owned()));
    let list = || standing.iter().chain(more).cloned();
    world.nsp.set_vips(list());
    world.log.has(once).await?;
    world.nsp.set_vips(list());
    world.nsp.set_vips(list().take(10).chain([("the-end".into(), "end".into())]));
    world.log.has(&["\"the-end\""]).await?;
    let vips = world.parts.kernel.status().borrow().vips;
    world.nsp.set_vips(VIPS);
    match (world.log.count(once), vips) {
        (1, true) => Ok(None),
        (count, vips) => Err(format!("said {count} times, and the VIPs are in place: {vips}")),
    }
}

fn vip(name: &str, address: impl Into<String>) -> (String, String) {
    (name.into(), address.into())
}

pub(crate) async fn nsp_duplicates(world: &World) -> Outcome {
    listed(world, &[vip("again", "20.0.0.1/32")], &["ignores a VIP", "\"again\"", "\"20.0.0.1/32\""]).await
}

pub(crate) async fn nsp_nonsense(world: &World) -> Outcome {
    listed(world, &[vip("word", "banana")], &["ignores a VIP", "\"word\"", "\"banana\""]).await
}

pub(crate) async fn nsp_everything(world: &World) -> Outcome {
    listed(world, &[vip("all", "0.0.0.0/0")], &["ignores a VIP", "\"all\"", "\"0.0.0.0/0\""]).await
}

/// One more than the kernel accepts: the last list stays.
pub(crate) async fn nsp_too_many(world: &World) -> Outcome {
    let many: Vec<_> = (0..19_999).map(|n| vip("n", format!("10.0.{}.{}/32", n >> 8, n & 255))).collect();
    listed(world, &many, &["too many VIPs", "20001"]).await
}

pub(crate) async fn nsp_down(world: &World) -> Outcome {
    world.nsp.interrupt();
    world.log.has(&["no watch of VIPs", "interrupted"]).await?;
    match world.parts.kernel.status().borrow().vips {
        true => Ok(None),
        false => Err("the VIPs are gone".into()),
    }
}

/// A target connects meanwhile. It is answered late, and its link becomes a port as soon as the
/// kernel allows it.
pub(crate) async fn netlink_denied(world: &World) -> Outcome {
    const EPERM: i32 = 1;
    world.linux.refuse_all(Some(EPERM));
    let answer = ask(world, new("bad")).await;
    world.linux.refuse_all(None);
    let answer = answer.map_err(|status| status.to_string())?;
    world.log.has(&["the leak stop of a link is late"]).await?;
    world.link(&answer).await?;
    closed(world, &answer).await?;
    Ok(None)
}

pub(crate) async fn netlink_unreadable(world: &World) -> Outcome {
    const EPERM: i32 = 1;
    world.linux.refuse_dumps(Some(EPERM));
    world.linux.add_link("noise", None);
    world.log.has(&["the kernel cannot be read"]).await?;
    world.linux.refuse_dumps(None);
    world.linux.remove_link("noise");
    Ok(None)
}
