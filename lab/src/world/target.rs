// SPDX-License-Identifier: Apache-2.0
//! A simulated target with Meridio's ambassador: a client of the proxy that carries VIPs.
//!
//! It requests the proxy's service with nothing but its name; takes addresses and gateways from the
//! answer; and to use VIPs it requests again, with its addresses and the VIPs as sources, and a
//! policy that sends packets from a VIP to the gateway.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use tokio::sync::watch;

use super::answered::{Answered, Publish};
use crate::{
    control_plane::{
        hop::{Hop, TOKEN_LIFETIME},
        registration::dialer,
    },
    error::{Doing, LabError},
    pods::pod::Pod,
    topology::{everything, proxy_service},
};
use nsm::chain::causes;
use nsm::{
    api::{
        Connection, Family, Mechanism, MechanismKind,
        pb::connectioncontext::{PolicyRoute, Route},
    },
    chain::{CallContext, Close, Next, Request},
    chains,
    elements::{
        heal::{self, Heal},
        mechanism::{self, Names},
        send_fd,
    },
    transport::{Address, Identity},
};

/// Deadline of a call, as in NSM's deployments.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest pause between two attempts to heal. NSM's clients make none.
const RETRY: Duration = Duration::from_millis(200);
/// Name of the link, with the number of Meridio's ambassador.
pub const LINK: &str = "nsm-0";

/// A target.
pub struct Target {
    /// Its name.
    pub name: String,
    node: String,
    hop: Hop,
    chain: Next,
    answered: watch::Sender<Answered>,
}

impl Target {
    /// A target of a node that is not connected yet.
    ///
    /// # Errors
    /// Its chain is in the wrong order.
    pub fn new(pod: &Pod, node: &str, nsmgr: &Address, identity: Identity) -> Result<Self, LabError> {
        let hop = Hop::new(pod.name.clone());
        let netns = send_fd::Netns::of(pod.netns.descriptor())
            .doing(|| format!("name the namespace of {}", pod.name))?;
        // It does not replace its link because of a refusal alone, like NSM's clients whose data
        // path is found to be whole.
        let heal = heal::Settings {
            token_lifetime: TOKEN_LIFETIME,
            reselect_after: u32::MAX,
            keep_endpoint: true,
            longest_pause: RETRY,
            ..heal::Settings::default()
        };
        let answered = watch::Sender::default();
        let chain = chains::client(&hop.name, dialer(nsmgr, &identity), &hop.tasks)
            .before("refresh", Publish(answered.clone()))
            .replace("heal", Heal::new(heal))
            .append(mechanism::Client::new(Names::new(|_| false)))
            .append(send_fd::Client::new(netns))
            .build();
        let chain = chain.doing(|| format!("build the chain of {}", pod.name))?;
        Ok(Self { name: pod.name.clone(), node: node.to_owned(), hop, chain, answered })
    }

    /// Id of its connection.
    pub fn id(&self) -> String {
        format!("{}-{}-0", self.name, proxy_service())
    }

    fn requested(&self) -> Box<Connection> {
        let mut connection = Connection::named(self.id());
        connection.network_service = proxy_service();
        connection.payload = "ETHERNET".into();
        connection.labels.insert("nodeName".into(), self.node.clone());
        connection
    }

    async fn request(&mut self, connection: Box<Connection>) -> Result<(), LabError> {
        let mut preference = Mechanism::local(MechanismKind::Kernel);
        preference.parameters.insert(nsm::api::parameter::NAME.into(), LINK.into());
        let request =
            Request { connection, preferences: vec![preference], context: CallContext::within(CALL_TIMEOUT) };
        self.chain.request(request).await.map(drop).doing(|| format!("connect {}", self.name))
    }

    /// Connects, or refreshes the connection unchanged.
    ///
    /// # Errors
    /// The answer of the proxy or of a hop before it.
    pub async fn connect(&mut self) -> Result<(), LabError> {
        let connection = self.connection().unwrap_or_else(|| self.requested());
        self.request(connection).await
    }

    /// Carries exactly these VIPs.
    ///
    /// # Errors
    /// The target is not connected, or the answer is an error.
    pub async fn set_vips(&mut self, vips: &[IpAddr]) -> Result<(), LabError> {
        let own = self.addresses();
        let gateways = self.gateways();
        let connection = self.connection().ok_or("it is not connected");
        let mut connection = connection.doing(|| format!("give VIPs to {}", self.name))?;
        let ip = connection.ip_context_mut();
        ip.src_ip_addrs = own
            .iter()
            .map(|net| net.to_string())
            .chain(vips.iter().map(|vip| IpNet::from(*vip).to_string()))
            .collect();
        ip.policies = vips.iter().filter_map(|vip| policy(*vip, &gateways)).collect();
        self.request(connection).await
    }

    /// Its own addresses: those in a subnet of a gateway.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.answered.borrow().addresses()
    }

    /// The gateways in the proxy's answer.
    pub fn gateways(&self) -> Vec<IpNet> {
        self.answered.borrow().gateways()
    }

    /// The connection as last answered.
    pub fn connection(&self) -> Option<Box<Connection>> {
        self.answered.borrow().0.clone()
    }

    /// Its present and later answers.
    pub fn follow(&self) -> watch::Receiver<Answered> {
        self.answered.subscribe()
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// The answer; the Close is then retried until the path expires.
    pub async fn close(&mut self) -> Result<(), LabError> {
        let Some(connection) = self.answered.send_replace(Answered::default()).0 else { return Ok(()) };
        let close = Close { connection, context: CallContext::within(CALL_TIMEOUT) };
        self.chain.close(close).await.map(drop).doing(|| format!("close {}", self.name))
    }

    /// Closes and ends.
    pub async fn stop(mut self) {
        if let Err(error) = self.close().await {
            tracing::warn!(name = self.name, error = causes(&error), "not closed");
        }
        self.hop.tasks.stop().await;
    }
}

/// Sends packets from a VIP to the gateway of its family; `None` if there is none.
fn policy(vip: IpAddr, gateways: &[IpNet]) -> Option<PolicyRoute> {
    let gateway = gateways.iter().find(|gateway| gateway.addr().is_ipv4() == vip.is_ipv4())?;
    let route =
        Route { prefix: everything(Family::of(vip)).to_string(), next_hop: gateway.addr().to_string() };
    Some(PolicyRoute { from: IpNet::from(vip).to_string(), routes: vec![route], ..PolicyRoute::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_goes_to_the_gateway_of_its_family() {
        let gateways = ["172.16.1.1/24".parse().unwrap(), "fd00:0:0:1::1/64".parse().unwrap()];
        let read = |vip: &str, gateways: &[IpNet]| {
            let policy = policy(vip.parse().unwrap(), gateways)?;
            let route = policy.routes[0].clone();
            Some(format!("{} {} {}", policy.from, route.prefix, route.next_hop))
        };
        assert_eq!(read("20.0.0.1", &gateways).unwrap(), "20.0.0.1/32 0.0.0.0/0 172.16.1.1");
        assert_eq!(read("2001:db8::1", &gateways).unwrap(), "2001:db8::1/128 ::/0 fd00:0:0:1::1");
        assert_eq!(read("2001:db8::1", &gateways[..1]), None);
    }
}
