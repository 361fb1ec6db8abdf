// SPDX-License-Identifier: Apache-2.0
//! Tests the element between a client and an endpoint, each with a separate namespace.

use tower::layer::layer_fn;
use tower_layer::Layer;

use super::*;
use crate::network::NEEDS;
use nsm::{
    api::{
        Family, parameter,
        pb::connectioncontext::{PolicyRoute, Route},
    },
    chain::{Chain, begin::BeginLayer, laws, metadata::MetadataLayer},
    elements::recv_fd::Descriptors,
    task::Tasks,
    testing::{
        kernel,
        witness::{links, routes, rules},
    },
};

/// The ends of a link: the client's and the endpoint's namespace.
#[derive(Clone)]
struct Ends {
    client: Netns,
    endpoint: Netns,
}

fn named(netns: &Netns, name: &str) -> Option<Mechanism> {
    let mut mechanism = kernel(netns.inode().unwrap());
    mechanism.parameters.insert(parameter::NAME.into(), name.into());
    Some(mechanism)
}

/// The element under test, with the descriptors and addresses that other elements would give it.
struct Given(Veth, Ends);

impl Element for Given {
    const NAME: &'static str = Veth::NAME;

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        scope.insert(FromCaller(Descriptors::of(self.1.client.descriptor()).unwrap()));
        scope.insert(FromNext(Descriptors::of(self.1.endpoint.descriptor()).unwrap()));
        request.connection.mechanism = named(&self.1.client, "nsm-0");
        request.connection.context_mut().mtu = 1400;
        let ip = request.connection.ip_context_mut();
        ip.src_ip_addrs = vec!["172.16.1.6/24".into(), "fd00:0:0:1::6/64".into()];
        ip.dst_ip_addrs = vec!["172.16.1.7/24".into(), "fd00:0:0:1::7/64".into()];
        let v4 = ("20.0.0.1/32", "0.0.0.0/0", "172.16.1.7");
        let v6 = ("2000::1/128", "::/0", "fd00:0:0:1::7");
        ip.policies = [v4, v6]
            .map(|(from, to, via)| PolicyRoute {
                from: from.into(),
                routes: vec![Route { prefix: to.into(), next_hop: via.into() }],
                ..PolicyRoute::default()
            })
            .into();
        self.0.request(request, next).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        close.connection.mechanism = named(&self.1.client, "nsm-0");
        self.0.close(close, next).await
    }
}

/// The endpoint, which names its own end.
struct Answers(Netns);

impl Element for Answers {
    const NAME: &'static str = "answers";

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let mut answer = next.request(request).await?;
        answer.mechanism = named(&self.0, "end-0");
        Ok(answer)
    }
}

/// Number of links, rules and routes that were made in a namespace.
fn made(netns: &Netns) -> usize {
    netns
        .run(|| {
            let links = links().iter().filter(|link| link.name != "lo").count();
            let rules = rules().iter().filter(|rule| rule.from.is_some()).count();
            let routes: usize = (1000..1004)
                .map(|table| Family::BOTH.map(|family| routes(family, table).len()).iter().sum::<usize>())
                .sum();
            Ok(links + rules + routes)
        })
        .unwrap()
}

impl Ends {
    fn new() -> Self {
        let netns = || Netns::new().expect(NEEDS);
        Self { client: netns(), endpoint: netns() }
    }

    fn layer(&self, tasks: &Tasks) -> impl Layer<Next, Service = Next> + use<> {
        let veth = Veth::new(Wirer::new(tasks.clone()));
        let ends = self.clone();
        layer_fn(move |next| {
            let below = Answers(ends.endpoint.clone()).layer().layer(next);
            Given(veth.clone(), ends.clone()).layer().layer(below)
        })
    }

    fn made(&self) -> usize {
        [&self.client, &self.endpoint].map(made).iter().sum()
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_laws_with_links_and_policies_of_both_families() {
    let ends = Ends::new();
    let tasks = Tasks::default();
    laws::check_layer(|| ends.layer(&tasks), || ends.made()).await.unwrap();
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_forwarder_removes_the_links_of_its_lanes() {
    let ends = Ends::new();
    laws::check_chain(
        |tasks: &Tasks| {
            let begin = BeginLayer::endpoint(tasks.clone());
            Chain::new().with(begin).with(MetadataLayer).layer("veth", ends.layer(tasks))
        },
        || ends.made(),
    )
    .await
    .unwrap();
}
