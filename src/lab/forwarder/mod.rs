// SPDX-License-Identifier: Apache-2.0
//! A forwarder that joins pods by veth pairs: the framework's second user.
//!
//! Its chain is an endpoint's, with the elements of a hop in the middle. It makes links solely from the Connections and
//! descriptors that it receives; it does not know the topology.

mod policy;
mod veth;
mod wiring;

pub use self::{
    policy::Policy,
    veth::Veth,
    wiring::{Side, Wired, Wirer, Wiring},
};
