// SPDX-License-Identifier: Apache-2.0

//! The address of a socket.

mod connect;
mod socket;

use std::{fmt, path::PathBuf, str::FromStr};

pub use self::socket::Socket;

/// Address of a peer: `unix:///path` or `tcp://host:port`.
///
/// ```
/// # use nsm::transport::Address;
/// let nsmgr: Address = "unix:///var/lib/networkservicemesh/nsm.io.sock".parse()?;
/// assert_eq!(nsmgr, Address::Unix("/var/lib/networkservicemesh/nsm.io.sock".into()));
/// let ipam: Address = "tcp://meridio-ipam:7777".parse()?;
/// assert_eq!(ipam.to_string(), "tcp://meridio-ipam:7777");
/// # Ok::<_, nsm::transport::InvalidAddress>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Path of a unix socket. Resolved by each dial, because the peer creates the file again when
    /// it restarts.
    Unix(PathBuf),
    /// Host and port; the host is an address or a name, which each dial resolves.
    Tcp(String),
}

/// A text that is not the address of a socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the address of a socket (accepted: unix:///path, tcp://host:port, tcp://[address]:port)"
)]
pub struct InvalidAddress(pub String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.chars().take(128).collect());
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:/path` and `unix:///path` are the same; after `unix://` a host would follow,
            // which does not exist.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') && path.len() > 1 {
                Ok(Self::Unix(path.into()))
            } else {
                Err(invalid())
            };
        }
        let address = text.strip_prefix("tcp://").unwrap_or(text);
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let named = !host.is_empty() && !host.contains([':', '/', '[', ']', '@', ' ']);
        let numbered = bare.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
        if (named || numbered) && port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Ok(Self::Tcp(address.to_owned()));
        }
        Err(invalid())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_unix_path_or_host_and_port() {
        let table = [
            ("unix:///run/a.sock", Some("unix:///run/a.sock")),
            ("unix:/run/a.sock", Some("unix:///run/a.sock")),
            ("tcp://ipam:7777", Some("tcp://ipam:7777")),
            ("ipam.ns.svc:7777", Some("tcp://ipam.ns.svc:7777")),
            ("tcp://[fd00::1]:7777", Some("tcp://[fd00::1]:7777")),
            ("tcp://10.0.0.1:1", Some("tcp://10.0.0.1:1")),
            ("", None),
            ("unix://", None),
            ("unix:///", None),
            ("unix://run/a.sock", None),
            ("tcp://ipam", None),
            ("tcp://:7777", None),
            ("tcp://ipam:0", None),
            ("tcp://ipam:70000", None),
            ("tcp://fd00::1:7777", None),
            ("tcp://[ipam]:7777", None),
            ("http://ipam:7777", None),
        ];
        for (text, expected) in table {
            match (text.parse::<Address>(), expected) {
                (Ok(address), Some(expected)) => assert_eq!(address.to_string(), expected),
                (Err(error), None) => assert!(error.to_string().contains(&format!("`{text}`")), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
