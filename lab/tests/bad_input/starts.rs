// SPDX-License-Identifier: Apache-2.0

//! Starts that lack something. If it comes later, the proxy continues by itself.

use std::{
    fs,
    os::unix::net::UnixListener,
    time::{Duration, SystemTime},
};

use meridio_lab::control_plane::{
    ipam::Ipam,
    registry::{Endpoints, Services},
};
use nsm::{
    api::pb::registry::{
        network_service_endpoint_registry_server::NetworkServiceEndpointRegistryServer,
        network_service_registry_server::NetworkServiceRegistryServer,
    },
    ipam::Tree,
    kernel::{self, Kernel, Netlink},
    proxy::{capabilities, faults, health::Health},
    task::Tasks,
    testing::{Authority, Issued, Lines, Workload},
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;

use crate::{
    around::{DOMAIN, HOUR, host, identity},
    log,
    process::{Place, Proxy},
    row::Checked,
};

pub(crate) async fn malformed_variables(place: &Place, texts: &[&str]) -> Checked {
    let bad = [("NSM_MTU", "jumbo"), ("NSM_DIAL_TIMEOUT", "5"), ("IP_FAMILY", "ipv5")];
    let proxy = place.proxy(&bad);
    for texts in [["NSM_MTU", "jumbo", "1280 to 65535"], ["NSM_DIAL_TIMEOUT", "\"5\"", "a Go duration"]] {
        proxy.log.has(&texts).await?;
    }
    proxy.fails(texts).await
}

pub(crate) async fn giant_variable(place: &Place, texts: &[&str]) -> Checked {
    let proxy = place.proxy(&[("NSM_TRENCH", &"t".repeat(100_000))]);
    let log = proxy.log.clone();
    proxy.fails(texts).await?;
    match log.count(&[&"t".repeat(1000)]) {
        0 => Ok(()),
        _ => Err("the whole value is in the log".into()),
    }
}

pub(crate) async fn no_net_admin(place: &Place, texts: &[&str]) -> Checked {
    place.proxy_without_net_admin().fails(texts).await
}

/// It gets its identity when there is one, and ends in order.
async fn recovers(place: &Place, proxy: Proxy, agent: &Workload) -> Checked {
    agent.grant(place.svid());
    proxy.log.has(&["\"identity\"", "spiffe://a.test/ns/default/pod/px"]).await?;
    proxy.ends().await
}

/// The agent accepts connections and never answers.
pub(crate) async fn silent_agent(place: &Place, texts: &[&str]) -> Checked {
    let socket = place.folder.join("agent.sock");
    let silent = UnixListener::bind(&socket).unwrap();
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    drop(silent);
    fs::remove_file(socket).unwrap();
    recovers(place, proxy, &place.agent()).await
}

pub(crate) async fn late_agent(place: &Place, texts: &[&str]) -> Checked {
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    recovers(place, proxy, &place.agent()).await
}

pub(crate) async fn late_entry(place: &Place, texts: &[&str]) -> Checked {
    let agent = place.agent();
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    recovers(place, proxy, &agent).await
}

async fn given(place: &Place, svid: Issued, texts: &[&str]) -> Checked {
    let agent = place.agent();
    agent.grant(svid);
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    recovers(place, proxy, &agent).await
}

pub(crate) async fn expired_svid(place: &Place, texts: &[&str]) -> Checked {
    let id = place.svid().id;
    let now = SystemTime::now();
    let expired = place.authority.issue_between(&id, now - 2 * HOUR, now - HOUR);
    given(place, expired, texts).await
}

/// The certificate of another authority, with the bundle of ours.
pub(crate) async fn foreign_svid(place: &Place, texts: &[&str]) -> Checked {
    let good = place.svid();
    let foreign = Authority::new(DOMAIN).issue(&good.id, HOUR);
    given(place, Issued { bundle: good.bundle, ..foreign }, texts).await
}

pub(crate) async fn mutilated_svid(place: &Place, texts: &[&str]) -> Checked {
    let mut cut = place.svid();
    cut.certificate.truncate(100);
    given(place, cut, texts).await
}

/// Everything else is available. When nsmgr comes, the proxy is registered and serves.
pub(crate) async fn no_nsmgr(place: &Place, texts: &[&str]) -> Checked {
    let agent = place.agent();
    agent.grant(place.svid());
    let _ipam = ipam(place).await;
    let proxy = place.proxy(&[]);
    proxy.log.has(texts).await?;
    serves_when_nsmgr_comes(place, proxy).await
}

/// An IPAM that has the conduit.
pub(crate) async fn ipam(place: &Place) -> AbortOnDropHandle<()> {
    let tree = Tree::new("trench");
    tree.add_conduit("conduit").unwrap();
    let ipam = Ipam::new(tree);
    let target = "tcp://127.0.0.1:7777".parse().unwrap();
    let routes = Routes::new(ipam.service());
    host(&target, identity(&place.authority, "ipam"), routes).await
}

/// It registers, serves, and ends in order.
pub(crate) async fn serves_when_nsmgr_comes(place: &Place, proxy: Proxy) -> Checked {
    let tasks = Tasks::default();
    let services = Services::default();
    let endpoints = Endpoints::new("node", &tasks);
    let routes = Routes::new(NetworkServiceRegistryServer::new(services))
        .add_service(NetworkServiceEndpointRegistryServer::new(endpoints.clone()));
    let nsmgr = host(&place.target("nsm.io.sock"), identity(&place.authority, "nsmgr"), routes).await;
    proxy.log.has(&["NSMEndpoint", "\"serving\":true"]).await?;
    proxy.ends().await?;
    let left = endpoints.all().len();
    drop(nsmgr);
    tasks.stop().await;
    if left == 0 { Ok(()) } else { Err(format!("{left} endpoints are still registered")) }
}

/// The real kernel refuses every change; once it no longer does, all declarations take effect.
pub(crate) async fn netlink_denied(_: &Place, texts: &[&str]) -> Checked {
    let own = rustix::thread::capabilities(None).unwrap();
    let effective = own.effective - CapabilitySet::NET_ADMIN;
    set_capabilities(None, CapabilitySets { effective, ..own }).unwrap();
    let log = Lines::default();
    let tasks = Tasks::default();
    let _logged = log::of_this_thread(&log);
    let settings = kernel::Settings::of("trench", "conduit", "node");
    let kernel = Kernel::start(settings, Netlink::open().unwrap(), &tasks);
    tasks.spawn(faults::report(kernel.status(), Health::default()));
    log.has(texts).await?;
    sleep(Duration::from_secs(1)).await;
    let denied = kernel.status().borrow().clone();
    if denied.leak_stop || denied.failures.is_empty() || denied.passes > 10 {
        return Err(format!("{denied:?}"));
    }
    capabilities::raise().map_err(|error| error.to_string())?;
    let mut status = kernel.status();
    let whole = status.wait_for(|status| status.leak_stop && status.failures.is_empty());
    let whole = tokio::time::timeout(Duration::from_secs(10), whole).await.map(drop);
    whole.map_err(|_| format!("still {:?}", kernel.status().borrow().clone()))?;
    kernel.stop(Instant::now() + Duration::from_secs(5)).await;
    tasks.stop().await;
    Ok(())
}
