// SPDX-License-Identifier: Apache-2.0
//! Makes the world lose a load balancer, a target's link or a proxy, and brings it back.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    World,
    balance::{self, FROM_PROXY},
    fabric::PRIMARY,
    target::LINK,
};
use crate::{
    error::{Doing, LabError},
    pods::pod::Process,
};

/// Timeout of a proxy's end: Kubernetes kills after 30 s.
pub const END: Duration = Duration::from_secs(25);

/// The way in which a load balancer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It unregisters, and serves its connections until they are closed.
    Leaves,
    /// Its process is killed, and nothing behind its links answers; links and registration stay.
    Silent,
    /// Its process is stopped, and nothing behind its links answers; links, registration and
    /// sockets stay.
    Hangs,
    /// Its pod is deleted: the process is killed and the links go.
    Unlinked,
}

impl World {
    /// Loses a load balancer, by its number.
    ///
    /// # Errors
    /// It does not run, or the kernel refused.
    pub async fn lose_lb(&mut self, number: usize, mishap: Mishap) -> Result<(), LabError> {
        let lost = || format!("lose load balancer {number}");
        let pod = self.fabric.lbs.get(number).ok_or("there is none").doing(lost)?;
        let lb = self.lbs.remove(&number).ok_or("it does not run").doing(lost)?;
        match mishap {
            Mishap::Leaves => drop(self.withdrawn.insert(number, lb.withdraw().await)),
            Mishap::Silent => {
                balance::silence(&pod.netlink).await?;
                drop(lb);
            }
            Mishap::Hangs => {
                balance::silence(&pod.netlink).await?;
                let mut lb = lb;
                lb.hang();
                self.hung.insert(number, lb);
            }
            Mishap::Unlinked => {
                drop(lb);
                for link in pod.netlink.links().await?.iter().filter(|l| l.alias.starts_with(FROM_PROXY)) {
                    pod.netlink.delete_link(link.index).await?;
                }
            }
        }
        Ok(())
    }

    /// Brings a load balancer back.
    ///
    /// # Errors
    /// It could not be started, or the kernel refused.
    pub async fn return_lb(&mut self, number: usize) -> Result<(), LabError> {
        let pod = self.fabric.lbs.get(number).ok_or("there is none");
        let pod = pod.doing(|| format!("bring load balancer {number} back"))?;
        balance::speak(&pod.netlink).await?;
        if let Some(mut lb) = self.hung.remove(&number) {
            lb.resume();
            self.lbs.insert(number, lb);
            return Ok(());
        }
        if let Some(left) = self.withdrawn.remove(&number) {
            left.stop().await;
        }
        self.start_lb(number).await
    }

    /// Loses the link of a target, by its number, and lets the target request it again.
    ///
    /// # Errors
    /// The target is not connected, or the answer is an error.
    pub async fn relink(&mut self, number: usize) -> Result<(), LabError> {
        let lost = || format!("make the link of target {number} again");
        let pod = self.fabric.targets.get(number).ok_or("there is none").doing(lost)?;
        let target = self.targets.get_mut(number).ok_or("it is not there").doing(lost)?;
        pod.netlink.delete_link(pod.netlink.index(LINK).await?).await?;
        target.connect().await
    }

    /// Loses the pod of a proxy, by the number of its node: the process is killed and every link
    /// goes but the primary one.
    ///
    /// # Errors
    /// It does not run, or the kernel refused.
    pub async fn lose_proxy_pod(&mut self, node: usize) -> Result<(), LabError> {
        self.kill_proxy(node).await?;
        let pod = self.fabric.proxies.get(node).ok_or("there is none");
        let netlink = &pod.doing(|| format!("lose the proxy of node {node}"))?.netlink;
        let kept = ["lo", PRIMARY];
        for link in netlink.links().await?.iter().filter(|link| !kept.contains(&link.name.as_str())) {
            netlink.delete_link(link.index).await?;
        }
        Ok(())
    }

    /// Kills the proxy of a node.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill_proxy(&mut self, node: usize) -> Result<(), LabError> {
        let process = self.running_proxy(node)?;
        let killed = process.signal(Signal::SIGKILL);
        killed.doing(|| format!("kill the proxy of node {node}"))?;
        process.terminate(END).await.map(drop).doing(|| format!("reap the proxy of node {node}"))
    }

    /// Terminates the proxy of a node.
    ///
    /// # Errors
    /// It does not run, or did not end in order within the time.
    pub async fn end_proxy(&mut self, node: usize, within: Duration) -> Result<(), LabError> {
        let ended = || format!("end the proxy of node {node} within {within:?}");
        let status = self.running_proxy(node)?.terminate(within).await.doing(ended)?;
        let good = status.is_some_and(|status| status.success());
        if good { Ok(()) } else { Err(format!("{status:?}")).doing(ended) }
    }

    fn running_proxy(&mut self, node: usize) -> Result<Process, LabError> {
        let proxy = self.proxies.get_mut(node).ok_or("there is none");
        proxy.doing(|| format!("end the proxy of node {node}"))?.ending()
    }
}
