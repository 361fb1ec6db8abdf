// SPDX-License-Identifier: Apache-2.0

//! Offers DNS servers to clients (NSM `dnscontext`).
//!
//! Each configuration is added to the DNS context of the connection, unless one with the same
//! servers and search domains is there: a refresh adds nothing, and those of other hops stay.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    api::{Connection, pb::connectioncontext::DnsConfig},
    chain::{Element, Next, Request, Result},
};

/// Element for an endpoint that has DNS servers for its clients.
///
/// ```
/// use nsm::{
///     api::{Connection, pb::connectioncontext::DnsConfig},
///     chain::{Chain, Request},
///     elements::dns_context::DnsContext,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = DnsConfig {
///     dns_server_ips: vec!["172.16.1.1".into()],
///     search_domains: vec!["web.example".into()],
/// };
/// let chain = Chain::new().with(DnsContext::new([config.clone()])).build()?;
/// let answer = chain.request(Request::new(Connection::named("a"))).await?;
/// let context = answer.context.and_then(|context| context.dns_context);
/// assert_eq!(context.map(|dns| dns.configs), Some(vec![config]));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct DnsContext(Arc<[DnsConfig]>);

impl DnsContext {
    /// Offers these configurations.
    pub fn new(configs: impl IntoIterator<Item = DnsConfig>) -> Self {
        Self(configs.into_iter().collect())
    }
}

/// Whether two configurations have the same servers and search domains, in any order.
fn same(one: &DnsConfig, other: &DnsConfig) -> bool {
    set(&one.dns_server_ips) == set(&other.dns_server_ips)
        && set(&one.search_domains) == set(&other.search_domains)
}

fn set(texts: &[String]) -> BTreeSet<&String> {
    texts.iter().collect()
}

impl Element for DnsContext {
    const NAME: &'static str = "dns_context";

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let context = request.connection.context_mut().dns_context.get_or_insert_default();
        for config in self.0.iter() {
            if !context.configs.iter().any(|there| same(there, config)) {
                context.configs.push(config.clone());
            }
        }
        next.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Chain, laws};

    fn config(servers: &[&str], domains: &[&str]) -> DnsConfig {
        let [dns_server_ips, search_domains] =
            [servers, domains].map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
        DnsConfig { dns_server_ips, search_domains }
    }

    #[tokio::test]
    async fn a_configuration_is_added_once() {
        let ours = [config(&["10.0.0.1", "10.0.0.2"], &["a.test"]), config(&["10.0.0.1"], &[])];
        let chain = Chain::new().with(DnsContext::new(ours.clone())).build().unwrap();
        let turned = config(&["10.0.0.2", "10.0.0.1"], &["a.test"]);
        let other = config(&["10.0.0.9"], &["a.test"]);
        let table = [
            (vec![], ours.to_vec()),
            (ours.to_vec(), ours.to_vec()),
            (vec![other.clone(), turned.clone()], vec![other, turned, ours[1].clone()]),
        ];
        for (there, expected) in table {
            let mut connection = Connection::named("a");
            connection.context_mut().dns_context.get_or_insert_default().configs = there;
            let answer = chain.request(Request::new(connection)).await.unwrap();
            assert_eq!(answer.context.unwrap().dns_context.unwrap().configs, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| DnsContext::new([config(&["10.0.0.1"], &[])])).await.unwrap();
    }
}
