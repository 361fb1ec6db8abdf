// SPDX-License-Identifier: Apache-2.0

//! The interface of an address service, which [`Leases`](super::Leases) calls.

use std::{borrow::Cow, future::Future, net::IpAddr};

use ipnet::IpNet;

use crate::api::Family;

/// Text of Meridio's IPAM when a prefix is used up. It is the only sign: the status code is
/// `Unknown`.
pub const NO_MORE_PREFIX: &str = "no more prefix available";

/// An address service, bound to one conduit on one node.
///
/// Both calls may be repeated: the same child and family give the same address, and releasing an
/// address that is not allocated succeeds. A future that is dropped may or may not have had its
/// effect.
pub trait Allocator: Send + Sync + 'static {
    /// Allocates the address of a child: a host address with the prefix length of its node.
    fn allocate(
        &self,
        child: &str,
        family: Family,
    ) -> impl Future<Output = Result<IpNet, AllocateError>> + Send;

    /// Releases the address of a child.
    fn release(&self, child: &str, family: Family) -> impl Future<Output = Result<(), AllocateError>> + Send;
}

/// The scope of an allocator's children: all of them share one prefix per family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    /// Name of the trench.
    pub trench: String,
    /// Name of the conduit.
    pub conduit: String,
    /// Name of the node.
    pub node: String,
}

/// The error of an address service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// The prefix of the node, conduit or trench is used up. Nothing was allocated. Release
    /// addresses or enlarge the prefix.
    #[error("the prefix is used up: {0}")]
    Exhausted(String),
    /// The service cannot be reached or is not ready. Try again later.
    #[error("the address service is unavailable: {0}")]
    Unavailable(String),
    /// The service refused: the trench or family is unknown to it, or its storage failed. Compare
    /// both configurations.
    #[error("the address service refused: {0}")]
    Refused(String),
    /// The answer is not an address. The service is another one, or broken.
    #[error(
        "the address service answered `{value}`: {problem} (accepted: one {family} host address and its prefix length)"
    )]
    Garbage {
        /// The answer, at most 64 characters of it.
        value: String,
        /// The problem with it.
        problem: Cow<'static, str>,
        /// The requested family.
        family: Family,
    },
    /// No answer in time. The call may have had its effect.
    #[error("the address service did not answer in time")]
    Deadline,
}

impl AllocateError {
    /// Whether the call may have had its effect although it failed.
    pub fn is_doubtful(&self) -> bool {
        !matches!(self, Self::Exhausted(_) | Self::Refused(_))
    }
}

/// Parses an answer: a text with an address, and a prefix length in bits.
///
/// # Errors
/// [`AllocateError::Garbage`] if the text is empty or not an address, the address is of another
/// family or cannot be a host's, or the length is not within 1 and the number of bits of an
/// address; and for the address of the network itself and that of its broadcast.
pub(crate) fn parse_answer(address: &str, length: i32, family: Family) -> Result<IpNet, AllocateError> {
    let garbage = |problem: &'static str| {
        let address: String = address.chars().take(48).collect();
        AllocateError::Garbage { value: format!("{address}/{length}"), problem: problem.into(), family }
    };
    if address.is_empty() {
        return Err(garbage("the address is empty"));
    }
    let ip: IpAddr = address.parse().map_err(|_| garbage("not an address"))?;
    if Family::of(ip) != family {
        return Err(garbage("an address of the other family"));
    }
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
        return Err(garbage("not an address that a host can have"));
    }
    let bits = u8::try_from(length).ok().filter(|bits| (1..=family.bits()).contains(bits));
    let net = bits.and_then(|bits| IpNet::new(ip, bits).ok());
    let net = net.ok_or_else(|| garbage("the prefix length is out of range"))?;
    match net {
        _ if net.prefix_len() + 1 >= net.max_prefix_len() => Ok(net),
        _ if ip == net.network() => Err(garbage("the address of the network itself")),
        IpNet::V4(_) if ip == net.broadcast() => Err(garbage("the broadcast address of the network")),
        _ => Ok(net),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_host_address_of_the_requested_family() {
        let table = [
            ("172.16.0.1", 24, Family::V4, Ok("172.16.0.1/24")),
            ("172.16.0.1", 32, Family::V4, Ok("172.16.0.1/32")),
            ("fd00::1", 64, Family::V6, Ok("fd00::1/64")),
            ("fd00::1", 128, Family::V6, Ok("fd00::1/128")),
            ("", 24, Family::V4, Err("empty")),
            ("banana", 24, Family::V4, Err("not an address")),
            ("172.16.0.1/24", 24, Family::V4, Err("not an address")),
            ("fd00::1", 64, Family::V4, Err("other family")),
            ("172.16.0.1", 24, Family::V6, Err("other family")),
            ("172.16.0.1", 0, Family::V4, Err("out of range")),
            ("172.16.0.1", -1, Family::V4, Err("out of range")),
            ("172.16.0.1", 33, Family::V4, Err("out of range")),
            ("fd00::1", 129, Family::V6, Err("out of range")),
            ("172.16.0.1", i32::MAX, Family::V4, Err("out of range")),
            ("0.0.0.0", 24, Family::V4, Err("can have")),
            ("224.0.0.1", 24, Family::V4, Err("can have")),
            ("::1", 64, Family::V6, Err("can have")),
            ("172.16.1.0", 24, Family::V4, Err("network itself")),
            ("172.16.1.255", 24, Family::V4, Err("broadcast")),
            ("fd00::", 64, Family::V6, Err("network itself")),
            ("fd00::ffff:ffff:ffff:ffff", 64, Family::V6, Ok("fd00::ffff:ffff:ffff:ffff/64")),
            ("172.16.1.254", 31, Family::V4, Ok("172.16.1.254/31")),
        ];
        for (address, length, family, expected) in table {
            match (parse_answer(address, length, family), expected) {
                (Ok(net), Ok(expected)) => assert_eq!(net.to_string(), expected),
                (Err(error), Err(expected)) => {
                    let text = error.to_string();
                    assert!(
                        text.contains(expected) && text.contains(&format!("`{address}/{length}`")),
                        "{text}"
                    );
                    assert!(error.is_doubtful(), "it may have been allocated nevertheless");
                }
                (got, expected) => panic!("{address}/{length}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn an_error_holds_no_more_than_a_line_of_the_answer() {
        let error = parse_answer(&"x".repeat(1 << 20), 24, Family::V4).unwrap_err();
        assert!(error.to_string().len() < 256);
    }
}
