// SPDX-License-Identifier: Apache-2.0

//! URLs of network services, as NSM's clients have them in their environment.

use std::{collections::BTreeMap, fmt, str::FromStr};

use url::Url;

use super::{Connection, InterfaceName, Mechanism, MechanismKind, parameter};

/// Longest URL that is accepted, in bytes.
const MAX: usize = 2048;
/// Longest part of a text that an error repeats, in characters.
const SHOWN: usize = 64;

/// A network service that a client wants: `kernel://service@domain/interface?label=value`.
///
/// The scheme is the mechanism. The domain, the name of the interface, and the labels are optional;
/// a label that occurs several times has its values joined by commas, as in NSM.
///
/// ```
/// # use nsm::api::{MechanismKind, NsUrl};
/// let url: NsUrl = "kernel://web@example.org/nsm-1?app=shop".parse()?;
/// assert_eq!(url.network_service(), "web@example.org");
/// assert_eq!(url.mechanism().kind(), Some(MechanismKind::Kernel));
/// assert_eq!(url.interface().map(|name| name.as_str()), Some("nsm-1"));
/// assert_eq!(url.labels()["app"], "shop");
/// # Ok::<_, nsm::api::InvalidNsUrl>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsUrl {
    kind: MechanismKind,
    service: String,
    interface: Option<InterfaceName>,
    labels: BTreeMap<String, String>,
}

/// A text that is not the URL of a network service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{url}` is not a network service: {reason} (accepted: kernel://service@domain/interface?label=value)"
)]
pub struct InvalidNsUrl {
    /// The text, or its beginning.
    pub url: String,
    /// The part that is refused, and its accepted values.
    pub reason: String,
}

impl NsUrl {
    /// Name of the network service, with its domain if there is one: `service@domain`.
    pub fn network_service(&self) -> &str {
        &self.service
    }

    /// Name of the interface, if one is wanted.
    pub fn interface(&self) -> Option<&InterfaceName> {
        self.interface.as_ref()
    }

    /// Labels of the client, by which the registry chooses an endpoint.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The mechanism as the preference of a Request, with the name of the interface.
    pub fn mechanism(&self) -> Mechanism {
        let mut mechanism = Mechanism::local(self.kind);
        if let Some(name) = &self.interface {
            mechanism.parameters.insert(parameter::NAME.into(), name.to_string());
        }
        mechanism
    }

    /// The connection of a first Request, with this id.
    pub fn connection(&self, id: impl Into<String>) -> Box<Connection> {
        let mut connection = Connection::named(id);
        connection.network_service.clone_from(&self.service);
        connection.labels = self.labels.clone().into_iter().collect();
        connection
    }
}

impl FromStr for NsUrl {
    type Err = InvalidNsUrl;

    fn from_str(text: &str) -> Result<Self, InvalidNsUrl> {
        parse(text).map_err(|reason| InvalidNsUrl { url: text.chars().take(SHOWN).collect(), reason })
    }
}

fn parse(text: &str) -> Result<NsUrl, String> {
    if text.len() > MAX {
        return Err(format!("{} bytes (accepted: up to {MAX})", text.len()));
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let kinds = [MechanismKind::Kernel, MechanismKind::Noop];
    let kind = kinds.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(url.scheme()));
    let kind = kind.ok_or_else(|| format!("mechanism `{}` (accepted: kernel, noop)", url.scheme()))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("no network service")?;
    if url.password().is_some() || url.port().is_some() {
        return Err("a password or a port (accepted: none)".into());
    }
    if url.fragment().is_some() {
        return Err("a fragment (accepted: none)".into());
    }
    let service = if url.username().is_empty() { host.into() } else { format!("{}@{host}", url.username()) };
    let interface = match url.path().trim_start_matches('/') {
        "" => None,
        name => Some(name.parse::<InterfaceName>().map_err(|error| error.to_string())?),
    };
    let mut labels = BTreeMap::<String, String>::new();
    for (label, value) in url.query_pairs() {
        let values = labels.entry(label.into_owned());
        values
            .and_modify(|values| *values = format!("{values},{value}"))
            .or_insert_with(|| value.into_owned());
    }
    Ok(NsUrl { kind, service, interface, labels })
}

/// The URL in NSM's form.
impl fmt::Display for NsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.as_str().to_ascii_lowercase(), self.service)?;
        if let Some(name) = &self.interface {
            write!(f, "/{name}")?;
        }
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.labels).finish();
        write!(f, "?{labels}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_nsms_clients_read_it() {
        // URL, service, interface, labels
        let table = [
            ("kernel://web", "web", None, ""),
            ("kernel://web/", "web", None, ""),
            ("KERNEL://web-1.a_b/nsm-1", "web-1.a_b", Some("nsm-1"), ""),
            ("kernel://Web@example.org/nsm-1", "Web@example.org", Some("nsm-1"), ""),
            ("noop://web?a=1&b=2&a=3", "web", None, "a=1,3 b=2"),
            ("kernel://web/nsm-1?app=a%20b&empty=", "web", Some("nsm-1"), "app=a b empty="),
        ];
        for (text, service, interface, labels) in table {
            let url: NsUrl = text.parse().unwrap();
            let listed: Vec<_> = url.labels().iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(url.network_service(), service, "{text}");
            assert_eq!(url.interface().map(InterfaceName::as_str), interface, "{text}");
            assert_eq!(url.mechanism().interface().as_ref(), url.interface(), "{text}");
            assert_eq!(listed.join(" "), labels, "{text}");
            assert_eq!(url.to_string().parse::<NsUrl>().unwrap(), url, "{url}");
            let connection = url.connection("a");
            assert_eq!(
                (connection.network_service.as_str(), connection.labels.len()),
                (service, url.labels.len())
            );
        }
    }

    #[test]
    fn a_url_that_is_refused_names_the_part() {
        let table = [
            ("", "relative URL"),
            ("web", "relative URL"),
            ("memif://web", "mechanism `memif` (accepted: kernel, noop)"),
            ("kernel://", "no network service"),
            ("kernel:web", "no network service"),
            ("kernel://web:1/nsm-1", "port"),
            ("kernel://web:word@example.org", "password"),
            ("kernel://web#a", "fragment"),
            ("kernel://web/a/b", "`a/b` is not an interface name"),
            ("kernel://web/sixteen-letters-", "15 bytes"),
        ];
        for (text, reason) in table {
            let error = text.parse::<NsUrl>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("label=value"), "{text}: {error}");
        }
        let long = format!("kernel://{}", "a".repeat(MAX)).parse::<NsUrl>().unwrap_err();
        assert!(long.to_string().len() < 300, "{long}");
    }
}
