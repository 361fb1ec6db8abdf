// SPDX-License-Identifier: Apache-2.0

//! Gives each connection a pair of addresses, one for each end of the link (NSM `point2pointipam`
//! and `groupipam`).
//!
//! 1. Each group gives a connection two addresses, as host prefixes: the lowest two that are free,
//!    of the first prefix that has two. The lower one is the endpoint's. Without a pair in one of
//!    the groups the Request fails.
//! 2. A connection keeps its pairs until its Close. A Request that fails changes nothing.
//! 3. An address in the excluded prefixes of the Request is not given. A pair that is excluded
//!    later is replaced, and is free once the Request has succeeded.
//! 4. A connection without a pair whose Request has addresses of both ends, as after a restart of
//!    the endpoint, gets them again if one prefix of the group has both and they are free.
//! 5. The client's address and a route to the endpoint's are in `src_ip_addrs` and `src_routes`,
//!    the endpoint's address and a route to the client's in `dst_ip_addrs` and `dst_routes`.
//! 6. Other addresses of the groups, and host routes to them, are removed: they belong to other
//!    connections.
//! 7. Addresses and routes elsewhere stay, unless the element is [strict](PointToPoint::strict).

mod free;
mod groups;
mod pool;
mod rules;

use std::sync::Arc;

use ipnet::IpNet;

pub use self::groups::{Groups, InvalidGroups};
use self::pool::{Pair, Pool};
use crate::{
    api::{Connection, parse_prefixes},
    chain::{Element, Next, Order, Reason, Request, Result},
};

/// Element for an endpoint's chain that gives each connection a pair of addresses of each group.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::point_to_point::PointToPoint,
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let chain = Chain::new()
///     .with(BeginLayer::endpoint(tasks.clone()))
///     .with(MetadataLayer)
///     .with(PointToPoint::new("[172.16.1.0/24],[fd00::/64]".parse()?))
///     .build()?;
///
/// let answer = chain.request(Request::new(Connection::named("a"))).await?;
/// let ip = answer.ip_context().ok_or("no IP context")?;
/// assert_eq!(ip.src_ip_addrs, ["172.16.1.1/32", "fd00::1/128"]);
/// assert_eq!(ip.dst_ip_addrs, ["172.16.1.0/32", "fd00::/128"]);
/// assert_eq!(ip.src_routes[0].prefix, "172.16.1.0/32");
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PointToPoint {
    groups: Arc<Groups>,
    pool: Pool,
    strict: bool,
}

/// The pairs of a connection, in the order of the groups.
struct Held(Vec<Arc<Pair>>);

impl PointToPoint {
    /// Gives pairs of these groups. Clones of the element share them.
    pub fn new(groups: Groups) -> Self {
        Self { pool: Pool::new(&groups), groups: Arc::new(groups), strict: false }
    }

    /// Removes every address and route that is not a pair's, so that a client cannot bring its own.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Number of pairs that connections hold.
    pub fn pairs(&self) -> usize {
        self.pool.pairs()
    }

    /// The pairs of a Request: those held before, unless they are excluded, recovered ones, or new
    /// ones (rules 1 to 4).
    fn acquire(&self, request: &mut Request) -> Result<Vec<Arc<Pair>>> {
        let held = request.context.scope.get::<Held>();
        let ip = request.connection.ip_context_mut();
        let excluded = parse_prefixes(&ip.excluded_prefixes);
        let clients = rules::usable(&ip.src_ip_addrs, &excluded);
        let endpoints = rules::usable(&ip.dst_ip_addrs, &excluded);
        let mut pairs = Vec::new();
        for (n, group) in self.groups.iter().enumerate() {
            let kept = held.as_ref().and_then(|held| held.0.get(n)).filter(|pair| !pair.is_in(&excluded));
            let pair = match kept {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(
                    self.pool
                        .recover(group, &clients, &endpoints)
                        .or_else(|| self.pool.lowest(group, &excluded))
                        .ok_or_else(|| exhausted(group, excluded.len()))?,
                ),
            };
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

fn exhausted(group: &[IpNet], excluded: usize) -> Reason {
    let prefixes: Vec<_> = group.iter().map(IpNet::to_string).collect();
    let prefixes = prefixes.join(", ");
    Reason::Exhausted(format!(
        "no two free addresses left in {prefixes} ({excluded} prefixes excluded by the Request)"
    ))
}

impl Element for PointToPoint {
    const NAME: &'static str = "point_to_point";
    const ORDER: Order = Order::STATE;

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let pairs = self.acquire(&mut request)?;
        rules::write(request.connection.ip_context_mut(), &self.groups, self.strict, &pairs);
        request.context.scope.insert(Held(pairs));
        next.request(request).await
    }
}

#[cfg(test)]
mod tests;
