// SPDX-License-Identifier: Apache-2.0

//! Addresses and prefixes in CIDR notation, as NSM and Meridio write them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Family;

/// A text that is neither `address/length` nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an IP address or prefix (accepted: 192.0.2.1, 192.0.2.0/24, 2001:db8::1, 2001:db8::/64)"
)]
pub struct InvalidPrefix(pub String);

/// Parses `address/length`; a bare address is a host prefix. Host bits are kept.
///
/// # Errors
/// [`InvalidPrefix`] with the text.
///
/// ```
/// use nsm::api::parse_prefix;
///
/// assert_eq!(parse_prefix("172.16.1.6/24")?.to_string(), "172.16.1.6/24");
/// assert_eq!(parse_prefix("2001:db8::1")?.to_string(), "2001:db8::1/128");
/// assert!(parse_prefix("20.0.0.1/33").is_err());
/// # Ok::<_, nsm::api::InvalidPrefix>(())
/// ```
pub fn parse_prefix(text: &str) -> Result<IpNet, InvalidPrefix> {
    let prefix = text.parse().ok().or_else(|| host(text.parse().ok()?));
    prefix.ok_or_else(|| InvalidPrefix(text.chars().take(64).collect()))
}

/// The prefix of one address.
fn host(address: IpAddr) -> Option<IpNet> {
    IpNet::new(address, Family::of(address).bits()).ok()
}

/// The prefixes among some texts. Like the Go helpers, it skips texts that do not parse.
pub fn parse_prefixes<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpNet> {
    texts.into_iter().filter_map(|text| parse_prefix(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_prefixes_and_bare_addresses_and_names_what_it_refuses() {
        let table = [
            ("20.0.0.1/32", Some("20.0.0.1/32")),
            ("172.16.1.6/24", Some("172.16.1.6/24")),
            ("20.0.0.1", Some("20.0.0.1/32")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("fd00::6/64", Some("fd00::6/64")),
            ("20.0.0.1/33", None),
            ("", None),
            ("20.0.0.1/", None),
            ("banana", None),
        ];
        for (text, expected) in table {
            match (parse_prefix(text), expected) {
                (Ok(net), Some(expected)) => assert_eq!(net.to_string(), expected),
                (Err(error), None) => assert!(error.to_string().contains(&format!("`{text}`")), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
