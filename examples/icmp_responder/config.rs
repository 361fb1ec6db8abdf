// SPDX-License-Identifier: Apache-2.0

//! The variables, with the names and defaults of NSM's icmp-responder.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use nsm::{
    api::pb::connectioncontext::DnsConfig,
    app::config::{Env, Variable},
    elements::point_to_point::Groups,
};
use serde::Deserialize;

const SERVICES: Variable = Variable::new("NSM_SERVICE_NAMES", "icmp-responder", "Network services");
const REGISTER: Variable = Variable::new(
    "NSM_REGISTER_SERVICE",
    "true",
    "Whether to register the network services; false if they are registered by others",
);
const PAYLOAD: Variable = Variable::new("NSM_PAYLOAD", "ETHERNET", "Payload of the network services");
const LABELS: Variable = Variable::new("NSM_LABELS", "", "Labels of the endpoint");
const PREFIXES: Variable =
    Variable::new("NSM_CIDR_PREFIX", "169.254.0.0/16", "Groups of prefixes of addresses");
const POLICY: Variable =
    Variable::new("NSM_IPAM_POLICY", "polite", "strict removes addresses of other prefixes");
const DNS: Variable = Variable::new("NSM_DNS_CONFIGS", "[]", "DNS servers for clients, as JSON");
const ROUTES: Variable = Variable::new(
    "NSM_PBR_CONFIG_PATH",
    "/etc/policy-based-routing/config.yaml",
    "File of policy routes for clients, which may be absent and may change",
);
const IDLE: Variable =
    Variable::new("NSM_IDLE_TIMEOUT", "0", "Time without a client after which the program ends; 0 is never");

/// The values.
pub(crate) struct Config {
    pub(crate) services: Vec<String>,
    pub(crate) register: bool,
    pub(crate) payload: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) addresses: Groups,
    pub(crate) strict: bool,
    pub(crate) dns: Vec<DnsConfig>,
    pub(crate) routes: PathBuf,
    pub(crate) idle: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    #[serde(default)]
    dns_server_ips: Vec<IpAddr>,
    #[serde(default)]
    search_domains: Vec<String>,
}

impl From<Dns> for DnsConfig {
    fn from(dns: Dns) -> Self {
        let dns_server_ips = dns.dns_server_ips.iter().map(IpAddr::to_string).collect();
        Self { dns_server_ips, search_domains: dns.search_domains }
    }
}

impl Config {
    pub(crate) fn read(env: &mut Env) -> Option<Self> {
        let services = env.list(SERVICES);
        let register = env.flag(REGISTER);
        let payload = env.value(PAYLOAD, "ETHERNET or IP", |text| {
            ["ETHERNET", "IP"].contains(&text).then(|| text.to_owned())
        });
        let labels = env.labels(LABELS);
        let addresses = env.parsed(PREFIXES, "172.16.0.0/16 or [172.16.0.0/16,172.17.0.0/16],[fd00::/64]");
        let strict = env.value(POLICY, "polite or strict", |text| match text.to_lowercase().as_str() {
            "polite" => Some(false),
            "strict" => Some(true),
            _ => None,
        });
        let accepted =
            r#"a list such as [{"dns_server_ips":["172.16.1.1"],"search_domains":["web.example"]}]"#;
        let dns = env.value(DNS, accepted, |text| serde_json::from_str::<Vec<Dns>>(text).ok());
        let routes = env.value(ROUTES, "the absolute path of a file", |text| {
            text.starts_with('/').then(|| PathBuf::from(text))
        });
        let idle = env.duration_or_zero(IDLE);
        Some(Self {
            services: services?,
            register: register?,
            payload: payload?,
            labels: labels?,
            addresses: addresses?,
            strict: strict?,
            dns: dns?.into_iter().map(DnsConfig::from).collect(),
            routes: routes?,
            idle: idle.filter(|idle| !idle.is_zero()),
        })
    }
}
