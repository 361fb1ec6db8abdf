// SPDX-License-Identifier: Apache-2.0
//! Publishes the connection of a target as last answered, also after events, which may change its
//! addresses.

use ipnet::IpNet;
use tokio::sync::watch;

use nsm::{
    api::{Connection, parse_prefixes},
    chain::{Element, Next, Order, Request, Result},
};

/// The connection of a target, if it is established.
#[derive(Clone, Debug, Default)]
pub struct Answered(pub Option<Box<Connection>>);

impl Answered {
    /// The addresses of the target: those in a subnet of a gateway.
    pub fn addresses(&self) -> Vec<IpNet> {
        let gateways = self.gateways();
        let ip = self.0.as_ref().and_then(|connection| connection.ip_context());
        let all = ip.map(|ip| parse_prefixes(&ip.src_ip_addrs)).unwrap_or_default();
        all.into_iter().filter(|net| gateways.iter().any(|gateway| gateway.contains(&net.addr()))).collect()
    }

    /// The gateways in the proxy's answer.
    pub fn gateways(&self) -> Vec<IpNet> {
        let ip = self.0.as_ref().and_then(|connection| connection.ip_context());
        ip.map(|ip| parse_prefixes(&ip.extra_prefixes)).unwrap_or_default()
    }
}

/// Element of a target.
#[derive(Clone, Debug)]
pub(super) struct Publish(pub(super) watch::Sender<Answered>);

impl Element for Publish {
    const NAME: &'static str = "publish";
    const ORDER: Order = Order::STATE;

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let answer = next.request(request).await?;
        self.0.send_replace(Answered(Some(answer.clone())));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nsm::chain::laws;

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| Publish(watch::Sender::default())).await.unwrap();
    }

    #[test]
    fn a_target_has_the_addresses_in_the_subnets_of_its_gateways() {
        let mut connection = Box::<Connection>::default();
        let ip = connection.ip_context_mut();
        ip.src_ip_addrs = ["172.16.2.6/24", "20.0.0.1/32", "fd00:0:0:2::6/64"].map(Into::into).into();
        ip.extra_prefixes = ["172.16.2.1/24", "fd00:0:0:2::1/64"].map(Into::into).into();
        let addresses = Answered(Some(connection)).addresses();
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["172.16.2.6/24", "fd00:0:0:2::6/64"]);
        assert!(Answered::default().addresses().is_empty());
    }
}
