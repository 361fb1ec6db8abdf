// SPDX-License-Identifier: Apache-2.0
//! Counts the leftovers after everything has been closed.

use std::{fs, io, time::Duration};

use tokio::time::Instant;

use super::verdict::Verdict;
use crate::{
    control_plane::ipam::Ipam,
    error::{Doing, LabError},
    world::{Stopped, fabric::Fabric},
};

/// Time between two counts.
const PACE: Duration = Duration::from_millis(20);

/// The counts at the start, to compare with.
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    descriptors: usize,
}

impl Baseline {
    /// Counts now, before anything is started.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn now() -> io::Result<Self> {
        Ok(Self { descriptors: open_descriptors()? })
    }
}

fn open_descriptors() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd")?.count())
}

/// Number of other processes in this PID namespace.
fn processes() -> io::Result<usize> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = names.filter_map(|name| name.parse::<u32>().ok());
    Ok(pids.filter(|pid| *pid != std::process::id()).count())
}

/// Numbers of links, rules and routes that NSM or the proxy made.
async fn in_kernel(fabric: &Fabric) -> Result<[usize; 3], LabError> {
    let mut links = 0;
    let mut rules = 0;
    let mut routes = 0;
    for pod in fabric.pods() {
        links += pod.netlink.links().await?.iter().filter(|link| !link.alias.is_empty()).count();
        let is_lb = fabric.lbs.iter().any(|lb| lb.name == pod.name);
        let extra = pod.netlink.extra_rules().await?;
        rules += extra.iter().filter(|rule| !is_lb || ![99, 100].contains(&rule.priority)).count();
        if !is_lb {
            routes += pod.netlink.count_extra_routes().await?;
        }
    }
    Ok([links, rules, routes])
}

/// Number of addresses that IPAM still holds for connections.
pub fn leases(ipam: &Ipam) -> usize {
    ipam.tree().children().iter().filter(|(name, _)| name != "bridge").count()
}

/// Time for closed resources to be gone: aborted tasks end a little later.
const REST: Duration = Duration::from_secs(2);

/// Judges the leftovers.
///
/// # Errors
/// Counting failed.
pub async fn judge(stopped: Stopped, baseline: Baseline) -> Result<Verdict, LabError> {
    let deadline = Instant::now() + REST;
    let mut counts = count(&stopped).await?;
    while counts.iter().any(|(_, count)| *count > 0) && Instant::now() < deadline {
        tokio::time::sleep(PACE).await;
        counts = count(&stopped).await?;
    }
    drop(stopped);
    let mut descriptors = beyond(baseline)?;
    while descriptors > 0 && Instant::now() < deadline + REST {
        tokio::time::sleep(PACE).await;
        descriptors = beyond(baseline)?;
    }
    counts.push(("descriptors", descriptors));
    let ok = counts.iter().all(|(_, count)| *count == 0);
    let verdict = Verdict::new("everything closed leaves nothing", ok);
    Ok(counts.into_iter().fold(verdict, |verdict, (name, count)| verdict.figure(name, count)))
}

async fn count(stopped: &Stopped) -> Result<Vec<(&'static str, usize)>, LabError> {
    let [links, rules, routes] = in_kernel(&stopped.fabric).await?;
    Ok(vec![
        ("links", links),
        ("rules", rules),
        ("routes", routes),
        ("leases", leases(&stopped.ipam)),
        ("connections", stopped.connections.iter().flatten().sum()),
        ("endpoints", stopped.endpoints),
        ("sockets", sockets(&stopped.fabric).doing(|| "count sockets".into())?),
        ("processes", processes().doing(|| "count processes".into())?),
    ])
}

/// Number of descriptors beyond those of the start.
fn beyond(baseline: Baseline) -> Result<usize, LabError> {
    let now = open_descriptors().doing(|| "count descriptors".into())?;
    Ok(now.saturating_sub(baseline.descriptors))
}

/// Number of unix sockets that still listen, in any of our namespaces.
fn sockets(fabric: &Fabric) -> io::Result<usize> {
    let inside = fabric.pods().map(|pod| pod.netns.run(listening));
    inside.chain([listening()]).sum()
}

fn listening() -> io::Result<usize> {
    // Flags 00010000: the socket accepts connections.
    let sockets = fs::read_to_string("/proc/thread-self/net/unix")?;
    Ok(sockets.lines().filter(|line| line.split_whitespace().nth(3) == Some("00010000")).count())
}
