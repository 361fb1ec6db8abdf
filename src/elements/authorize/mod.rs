// SPDX-License-Identifier: Apache-2.0

//! Verifies the tokens of the path (NSM `authorize`, with its default policies).
//!
//! Each hop has put a token into its segment that names the next hop, and each hop verifies its
//! neighbour's signature with the certificate of the connection between them. The policies are in
//! [`token`](crate::transport::token).

mod client;
mod endpoint;

pub use self::{client::Client, endpoint::Endpoint};

#[cfg(test)]
mod tests;
