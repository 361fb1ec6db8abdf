// SPDX-License-Identifier: Apache-2.0
//! Print both chains as they are built, without running them.
//!
//! The rows are those of the real chains; what they stand on is in memory, and nothing is called.

use std::{fmt::Write, io, time::Duration};

use tokio::sync::watch;

use crate::{
    api::Dual,
    chain::{Chain, Tasks},
    elements::{egress::Egress, mechanism::Names, send_fd::Netns},
    ipam::{self, InMemory, Leases, Subnet, Tree},
    kernel::{self, Kernel, Memory},
    proxy::chains::{self, Parts},
    transport::{Dialer, Identity, Target, monitor::Connections},
};

/// Both chains, one row per line, in request order.
///
/// # Errors
/// `/proc` is not mounted.
pub(super) async fn chains() -> io::Result<String> {
    let tasks = Tasks::default();
    let parts = parts(&tasks)?;
    let mut text = String::new();
    for (title, chain) in [("endpoint", chains::endpoint(&parts)), ("client", chains::client(&parts))] {
        rows(&mut text, title, &chain);
    }
    drop(parts);
    tasks.stop().await;
    Ok(text)
}

fn rows(text: &mut String, title: &str, chain: &Chain) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{title}");
    for name in chain.names() {
        let _infallible = writeln!(text, "  {name}");
    }
}

fn parts(tasks: &Tasks) -> io::Result<Parts> {
    let none = || String::from("none");
    let subnet = Subnet { trench: none(), conduit: none(), node: none() };
    let settings = kernel::Settings::of("none", "none", "none");
    let nowhere = Target::Unix("/nonexistent".into());
    Ok(Parts {
        name: none(),
        token_lifetime: Duration::from_secs(600),
        mtu: 1500,
        netns: Netns::own()?,
        names: Names::new(|_| false),
        kernel: Kernel::start(settings, Memory::default(), tasks),
        leases: Leases::start(InMemory::new(Tree::new("none"), subnet), ipam::Settings::default(), tasks),
        gateways: watch::channel(Dual::NONE).1,
        connections: Connections::default(),
        egress: Egress::default(),
        dialer: Dialer {
            identity: Identity::follow(&nowhere.to_string(), tasks),
            target: nowhere,
            dial_timeout: Duration::from_secs(1),
            token_lifetime: Duration::from_secs(600),
        },
        tasks: tasks.clone(),
    })
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn g04_both_chains_are_printed_in_request_order() {
        let text = super::chains().await.unwrap();
        let (endpoint, client) = text.split_once("client\n").unwrap();
        let rows = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(
            rows(endpoint),
            "endpoint trace update_path begin update_token authorize metadata timeout monitor trim_path mechanism ipam \
             bridge mtu send_fd"
        );
        assert_eq!(
            rows(client),
            "trace update_path begin metadata refresh heal mechanism ipam egress source_route bridge mtu send_fd \
             authorize connect"
        );
    }
}
