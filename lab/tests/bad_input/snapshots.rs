// SPDX-License-Identifier: Apache-2.0

//! Starts after an earlier process whose snapshot cannot be used or replaced, or without the
//! services whose state the snapshot has.

use std::{fs, os::unix::fs::PermissionsExt};

use nix::mount::{MsFlags, mount};
use nsm::{
    api::Dual,
    ipam::{Record, Subnet},
    proxy::snapshot::{File, Snapshot, Store},
};

use crate::{
    process::Place,
    row::Checked,
    starts::{ipam, serves_when_nsmgr_comes},
};

/// Leaves the snapshot of an earlier process of a trench.
fn leave(place: &Place, trench: &str) {
    let addresses = Dual { v4: "172.16.1.1/24".parse().ok(), v6: "fd00::1/64".parse().ok() };
    let of = Subnet { trench: trench.into(), conduit: "conduit".into(), node: "node".into() };
    let snapshot = Snapshot {
        leases: vec![Record { child: "bridge".into(), owner: None, addresses }],
        vips: Some(["20.0.0.1/32".parse().unwrap()].into()),
    };
    File::new(place.snapshot(), of).store(&snapshot).unwrap();
}

/// It logs the snapshot, sets it aside, and waits as it does without one.
async fn refuses(place: &Place, texts: &[&str]) -> Checked {
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    proxy.log.has(&["start waits", "the Workload API"]).await?;
    if place.snapshot().exists() {
        return Err("the snapshot is not set aside".into());
    }
    proxy.ends().await
}

pub(crate) async fn damaged(place: &Place, texts: &[&str]) -> Checked {
    fs::write(place.snapshot(), "banana\n").unwrap();
    fs::set_permissions(place.snapshot(), fs::Permissions::from_mode(0o600)).unwrap();
    refuses(place, texts).await
}

pub(crate) async fn cut_off(place: &Place, texts: &[&str]) -> Checked {
    leave(place, "trench");
    let file = fs::File::options().write(true).open(place.snapshot()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    refuses(place, texts).await
}

pub(crate) async fn of_another_trench(place: &Place, texts: &[&str]) -> Checked {
    leave(place, "other");
    refuses(place, texts).await
}

pub(crate) async fn of_a_future_version(place: &Place, texts: &[&str]) -> Checked {
    leave(place, "trench");
    let text = fs::read_to_string(place.snapshot()).unwrap();
    fs::write(place.snapshot(), text.replacen("snapshot 1 ", "snapshot 2 ", 1)).unwrap();
    refuses(place, texts).await
}

pub(crate) async fn of_others(place: &Place, texts: &[&str]) -> Checked {
    leave(place, "trench");
    fs::set_permissions(place.snapshot(), fs::Permissions::from_mode(0o666)).unwrap();
    refuses(place, texts).await
}

/// It serves without a snapshot at this path.
async fn serves_without(place: &Place, path: &str, texts: &[&str]) -> Checked {
    let agent = place.agent();
    agent.grant(place.svid());
    let _ipam = ipam(place).await;
    let proxy = place.proxy(&[("NSM_SNAPSHOT_PATH", path)]);
    proxy.log.has(texts).await?;
    serves_when_nsmgr_comes(place, proxy).await
}

pub(crate) async fn disk_full(place: &Place, texts: &[&str]) -> Checked {
    let disk = place.folder.join("disk");
    fs::create_dir(&disk).unwrap();
    mount(Some("tmpfs"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=4k")).unwrap();
    fs::write(disk.join("other"), "x".repeat(4096)).unwrap();
    serves_without(place, &disk.join("snapshot").to_string_lossy(), texts).await
}

pub(crate) async fn no_folder(place: &Place, texts: &[&str]) -> Checked {
    serves_without(place, "/tmp/place/missing/snapshot", texts).await
}

/// Neither answers during the proxy's whole life. It is registered and serves nevertheless.
pub(crate) async fn without_services(place: &Place, texts: &[&str]) -> Checked {
    leave(place, "trench");
    let agent = place.agent();
    agent.grant(place.svid());
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    serves_when_nsmgr_comes(place, proxy).await?;
    if place.snapshot().exists() { Ok(()) } else { Err("the snapshot is gone".into()) }
}
