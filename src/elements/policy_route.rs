// SPDX-License-Identifier: Apache-2.0

//! Gives clients routes for some of their packets only, chosen by source, protocol and ports (NSM
//! `policyroute`).
//!
//! 1. The policies of the connection are replaced by those of the element.
//! 2. Their sources are addresses of the client as well, and those of the replaced policies are not
//!    any more.
//! 3. Policies that change reach a connection with its next Request, at the latest its refresh.

use tokio::sync::watch;

use crate::{
    api::{Connection, pb::connectioncontext::PolicyRoute},
    chain::{Element, Next, Order, Request, Result},
};

/// Element for an endpoint that sets the policy routes of its clients.
///
/// ```
/// use nsm::{
///     api::{Connection, pb::connectioncontext::{PolicyRoute, Route}},
///     chain::{Chain, Request},
///     elements::policy_route::PolicyRoutes,
/// };
/// use tokio::sync::watch;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let route = Route { prefix: "10.0.0.0/8".into(), next_hop: "172.16.1.0".into() };
/// let policy = PolicyRoute { from: "20.0.0.1/32".into(), routes: vec![route], ..Default::default() };
/// let (policies, follow) = watch::channel(vec![policy]); // of a file, for instance
/// let chain = Chain::new().with(PolicyRoutes::follow(follow)).build()?;
///
/// let answer = chain.request(Request::new(Connection::named("a"))).await?;
/// assert_eq!(answer.ip_context().ok_or("no IP context")?.src_ip_addrs, ["20.0.0.1/32"]);
///
/// policies.send(Vec::new())?;
/// let answer = chain.request(Request::new(answer)).await?;
/// assert!(answer.ip_context().ok_or("no IP context")?.src_ip_addrs.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PolicyRoutes(watch::Receiver<Vec<PolicyRoute>>);

impl PolicyRoutes {
    /// Sets the same policies for good.
    pub fn new(policies: impl Into<Vec<PolicyRoute>>) -> Self {
        Self(watch::channel(policies.into()).1)
    }

    /// Sets the policies that a channel has at the time of the Request.
    pub fn follow(policies: watch::Receiver<Vec<PolicyRoute>>) -> Self {
        Self(policies)
    }
}

impl Element for PolicyRoutes {
    const NAME: &'static str = "policy_route";
    // Above them, a strict allocation would remove the sources again.
    const ORDER: Order = Order::ANY.after(&["point_to_point"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let ip = request.connection.ip_context_mut();
        let former = std::mem::replace(&mut ip.policies, self.0.borrow().clone());
        ip.src_ip_addrs.retain(|address| former.iter().all(|policy| policy.from != *address));
        for policy in ip.policies.iter().filter(|policy| !policy.from.is_empty()) {
            if !ip.src_ip_addrs.contains(&policy.from) {
                ip.src_ip_addrs.push(policy.from.clone());
            }
        }
        next.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Chain, laws};

    fn from(source: &str) -> PolicyRoute {
        PolicyRoute { from: source.into(), proto: "udp".into(), ..PolicyRoute::default() }
    }

    #[tokio::test]
    async fn policies_and_their_sources_replace_the_former_ones() {
        let table: [[&[&str]; 4]; 5] = [
            // Addresses and sources of the Request, sources of the element, addresses after it.
            [&["10.0.0.1/32"], &[], &[], &["10.0.0.1/32"]],
            [&["10.0.0.1/32"], &[], &["20.0.0.1/32"], &["10.0.0.1/32", "20.0.0.1/32"]],
            [
                &["10.0.0.1/32", "20.0.0.1/32"],
                &["20.0.0.1/32"],
                &["20.0.0.2/32"],
                &["10.0.0.1/32", "20.0.0.2/32"],
            ],
            [&["10.0.0.1/32", "20.0.0.1/32"], &["20.0.0.1/32"], &[], &["10.0.0.1/32"]],
            [&["10.0.0.1/32"], &[], &["", "20.0.0.1/32", "20.0.0.1/32"], &["10.0.0.1/32", "20.0.0.1/32"]],
        ];
        for [addresses, former, ours, expected] in table {
            let policies: Vec<_> = ours.iter().copied().map(from).collect();
            let chain = Chain::new().with(PolicyRoutes::new(policies.clone())).build().unwrap();
            let mut connection = Connection::named("a");
            let ip = connection.ip_context_mut();
            ip.src_ip_addrs = addresses.iter().map(ToString::to_string).collect();
            ip.policies = former.iter().copied().map(from).collect();
            let mut answer = chain.request(Request::new(connection)).await.unwrap();
            assert_eq!(answer.ip_context_mut().src_ip_addrs, expected);
            assert_eq!(answer.ip_context_mut().policies, policies);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| PolicyRoutes::new([from("20.0.0.1/32")])).await.unwrap();
    }
}
