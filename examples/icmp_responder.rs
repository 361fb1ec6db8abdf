// SPDX-License-Identifier: Apache-2.0

//! Serves network services whose clients get a link to this pod and a pair of addresses, so that
//! they can ping it: NSM's cmd-nse-icmp-responder without SR-IOV and pprof.
//!
//! It is configured by `NSM_*` variables, which `--help` prints, and runs until a signal ends it.

use std::process::ExitCode;

use nsm::{
    App,
    api::pb::registry::NetworkService,
    app::config::{Env, Variable},
    elements::{
        mechanism::{self, Names},
        point_to_point::{Groups, PointToPoint},
        send_fd::{self, Netns},
    },
};

struct Config {
    services: Vec<String>,
    payload: String,
    labels: Vec<(String, String)>,
    addresses: Groups,
    strict: bool,
}

fn read(env: &mut Env) -> Option<Config> {
    let services = env.list(Variable::new("NSM_SERVICE_NAMES", "icmp-responder", "Network services"));
    let payload = Variable::new("NSM_PAYLOAD", "ETHERNET", "Payload of the network services");
    let payload = env
        .value(payload, "ETHERNET or IP", |text| ["ETHERNET", "IP"].contains(&text).then(|| text.to_owned()));
    let labels = env.labels(Variable::new("NSM_LABELS", "", "Labels of the endpoint"));
    let groups = Variable::new("NSM_CIDR_PREFIX", "169.254.0.0/16", "Groups of prefixes of addresses");
    let addresses = env.parsed(groups, "172.16.0.0/16 or [172.16.0.0/16,172.17.0.0/16],[fd00::/64]");
    let policy = Variable::new("NSM_IPAM_POLICY", "polite", "strict removes addresses of other prefixes");
    let strict = env.value(policy, "polite or strict", |text| match text {
        "polite" => Some(false),
        "strict" => Some(true),
        _ => None,
    });
    Some(Config {
        services: services?,
        payload: payload?,
        labels: labels?,
        addresses: addresses?,
        strict: strict?,
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    App::run(env!("CARGO_CRATE_NAME"), read, async |app: App, config: Config| {
        let pool = PointToPoint::new(config.addresses);
        let mut endpoint = app
            .endpoint()
            .with(if config.strict { pool.strict() } else { pool })
            .with(mechanism::Endpoint::new(Names::of_pod()))
            .with(send_fd::Endpoint::new(Netns::own()?));
        for (name, value) in config.labels {
            endpoint = endpoint.label(name, value);
        }
        for name in config.services {
            let payload = config.payload.clone();
            endpoint = endpoint.offer_service(NetworkService { name, payload, ..Default::default() });
        }
        endpoint.run(app.stopped()).await?;
        Ok(())
    })
    .await
}
