// SPDX-License-Identifier: Apache-2.0

//! A second implementation for the kernel of this thread's namespace: it sets tests up and reads
//! the result.
//!
//! It shares nothing with the implementation under test but the crate that encodes messages, so a
//! mistake in either shows. It panics on a refusal of the kernel, unless the refusal is the answer.

mod addresses;
mod announcements;
mod dialogue;
mod links;
mod neighbours;
mod routes;
mod rules;
mod snapshot;

pub use self::{
    addresses::{Address, add_address, addresses, flush_addresses},
    announcements::Announcements,
    links::{
        Link, add_bridge, add_veth, change_link, delete_link, link, links, query, set_port, snoop, snooping,
    },
    neighbours::{learn_neighbour, neighbour, neighbours, set_forward, set_neighbour},
    routes::{MAIN, NextHop, Route, Way, add_route, replace_route, route_get, routes},
    rules::{Action, Rule, add_rule, delete_rule, rules},
    snapshot::snapshot,
};
