// SPDX-License-Identifier: Apache-2.0

//! Messages of NSM, Meridio and SPIFFE, and typed views of their strings.
//!
//! [`pb`] is generated from `proto/`. The other modules parse the texts in messages: addresses,
//! interface names, inode URLs. Strings are parsed at the edge; above this floor, addresses are
//! [`IpNet`](ipnet::IpNet) and families are [`Family`].

#[cfg(feature = "transport")]
mod codec;
mod connection;
mod family;
mod mechanism;
#[cfg(feature = "transport")]
mod ns_url;
pub mod pb;
mod prefix;

#[cfg(feature = "transport")]
pub(crate) use self::codec::Fitted;
#[cfg(feature = "transport")]
pub use self::ns_url::{InvalidNsUrl, NsUrl};
pub use self::{
    family::{Dual, Family},
    mechanism::{Inode, InterfaceName, InvalidInode, InvalidInterfaceName, MechanismKind, parameter},
    pb::connection::{Connection, Mechanism, Path, PathSegment, State},
    prefix::{InvalidPrefix, parse_prefix, parse_prefixes},
};
