// SPDX-License-Identifier: Apache-2.0
//! Routes with one or more next hops, in a table.

use std::net::IpAddr;

use futures::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::{
    RouteMessageBuilder, RouteNextHopBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
};

use super::netlink::{Netlink, NetlinkError, doing, missing};
use nsm::api::Family;

/// The table that unmarked traffic uses.
pub const MAIN: u32 = 254;
/// The table of a pod's own addresses.
pub const LOCAL: u32 = 255;

/// A next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via {
    /// Address of the next hop; `None` if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Index of the link.
    pub link: u32,
}

impl Netlink {
    /// Sets the route to a prefix, in place of an earlier one. Gateways count as reachable on their
    /// link.
    ///
    /// # Errors
    /// The list is empty, or a link is down or gone.
    pub async fn set_route(&self, to: IpNet, table: u32, ways: &[Via]) -> Result<(), NetlinkError> {
        self.set_route_behind(to, table, None, ways).await
    }

    /// Sets the route to a prefix with this metric: a route with a lower one is preferred.
    ///
    /// # Errors
    /// See [`set_route`](Self::set_route).
    pub async fn set_route_behind(
        &self,
        to: IpNet,
        table: u32,
        metric: Option<u32>,
        ways: &[Via],
    ) -> Result<(), NetlinkError> {
        let what = || format!("route {to} in table {table} through {ways:?}");
        let hops = ways.iter().map(|way| hop(Family::of_net(&to), way)).collect::<Result<Vec<_>, _>>();
        let hops = hops.map_err(|source| NetlinkError { doing: what(), source })?;
        let mut route = to_prefix(to, table).multipath(hops);
        if let Some(metric) = metric {
            route = route.priority(metric);
        }
        let route = route.build();
        doing(self.handle.route().add(route).replace().execute().await, what)
    }

    /// Removes a route to a prefix from a table, the first if there are several; false if there is
    /// none.
    ///
    /// # Errors
    /// The kernel refused.
    pub async fn delete_route(&self, to: IpNet, table: u32) -> Result<bool, NetlinkError> {
        let route = to_prefix(to, table).protocol(RouteProtocol::Unspec).scope(RouteScope::NoWhere).build();
        match self.handle.route().del(route).execute().await {
            Err(error) if missing(&error) => Ok(false),
            done => doing(done, || format!("remove route {to} from table {table}")).map(|()| true),
        }
    }

    /// Next hops of the unicast routes of a table, of both families.
    ///
    /// # Errors
    /// The dump failed.
    pub async fn next_hops(&self, table: u32) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut hops = Vec::new();
        for route in self.routes().await?.iter().filter(|route| table_of(route) == table) {
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Gateway(gateway) => hops.extend(address(gateway)),
                    RouteAttribute::MultiPath(several) => {
                        let all = several.iter().flat_map(|hop| &hop.attributes);
                        hops.extend(all.filter_map(|attribute| match attribute {
                            RouteAttribute::Gateway(gateway) => address(gateway),
                            _ => None,
                        }));
                    }
                    _ => {}
                }
            }
        }
        Ok(hops)
    }

    /// Number of routes outside the tables `main` and `local`, of both families.
    ///
    /// # Errors
    /// The dump failed.
    pub async fn count_extra_routes(&self) -> Result<usize, NetlinkError> {
        let routes = self.routes().await?;
        Ok(routes.iter().filter(|route| ![MAIN, LOCAL].contains(&table_of(route))).count())
    }

    async fn routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let all: Result<Vec<_>, _> = self.handle.route().get(query).execute().try_collect().await;
            routes.extend(doing(all, || "list routes".into())?);
        }
        Ok(routes)
    }
}

fn to_prefix(to: IpNet, table: u32) -> RouteMessageBuilder<IpAddr> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new().table_id(table).kind(RouteType::Unicast);
    let message = builder.get_mut();
    message.header.destination_prefix_length = to.prefix_len();
    message.header.address_family = family(Family::of_net(&to));
    if to.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(to.network().into()));
    }
    builder
}

fn hop(family: Family, way: &Via) -> std::io::Result<rtnetlink::packet_route::route::RouteNextHop> {
    let builder = match family {
        Family::V4 => RouteNextHopBuilder::new_ipv4(),
        Family::V6 => RouteNextHopBuilder::new_ipv6(),
    };
    let builder = builder.interface(way.link);
    let builder = match way.gateway {
        Some(gateway) => builder.via(gateway).map_err(std::io::Error::other)?.onlink(),
        None => builder,
    };
    Ok(builder.build())
}

pub(super) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn address(gateway: &RouteAddress) -> Option<IpAddr> {
    match gateway {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn table_of(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or_else(|| route.header.table.into())
}
