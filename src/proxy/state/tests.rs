// SPDX-License-Identifier: Apache-2.0
use std::fs;

use schemars::schema_for;

use super::*;
use crate::{
    api::{Connection, Dual},
    ipam,
    kernel::{self, Ends, PeerId},
    proxy::{config::Config, health::Health, in_memory::parts, mesh},
    task::Tasks,
    testing::Authority,
};

fn sources() -> Sources {
    let socket = |name: &str| (name == "SPIFFE_ENDPOINT_SOCKET").then(|| "unix:///run/agent.sock".into());
    Sources::new(&Config::parse(socket).unwrap(), &Health::default())
}

#[tokio::test]
async fn a_part_that_is_not_up_is_absent() {
    let sources = sources();
    let document = sources.document();
    assert_eq!(document.version, VERSION);
    assert_eq!(document.start.step.as_deref(), Some("works on the start"));
    assert_eq!((document.identity, document.kernel, document.mesh), (None, None, None));
    assert_eq!(document.services, Services::default());
    let tasks = Tasks::default();
    let parts = parts("px", &tasks).unwrap();
    sources.handles().kernel.set(parts.kernel.status()).unwrap();
    sources.handles().leases.set(parts.leases.status()).unwrap();
    let document = sources.document();
    assert!(document.kernel.is_some());
    assert_eq!(document.leases, Some(Leases::default()));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_has_its_link_and_its_next_hops() {
    let tasks = Tasks::default();
    let linux = kernel::Memory::default();
    let kernel =
        kernel::Kernel::start(kernel::Settings::of("trench", "conduit", "node"), linux.clone(), &tasks);
    kernel.set_gateways(Dual { v4: "172.16.1.1/24".parse().ok(), v6: None });
    let settings = mesh::Settings {
        name: "px".into(),
        network_service: "lb".into(),
        request_timeout: std::time::Duration::from_secs(15),
    };
    let peer = PeerId::load_balancer(&settings.connection_id("lb-1"));
    linux.add_link("nsm-1", None);
    let _port = kernel.port(&peer, "nsm-1".parse().unwrap(), Ends::default());
    let _hop = kernel.next_hop(&peer, "172.16.1.2".parse().unwrap());
    kernel.settled().await;
    let links = [("lb-1".to_owned(), mesh::LinkState::Connected)].into();
    let status = mesh::Status { known: true, links };
    let sources = sources();
    sources.handles().kernel.set(kernel.status()).unwrap();
    let status = tokio::sync::watch::channel(status).1;
    let known = tokio::sync::watch::channel(Default::default()).1;
    let _followed = sources.handles().set_mesh(settings, status, known, &tasks);
    let balancer = || sources.document().mesh.unwrap().load_balancers.remove(0);
    let up = balancer();
    assert_eq!(
        (up.name.as_str(), up.state.as_str(), up.links[0].state.as_str()),
        ("lb-1", "connected", "running")
    );
    assert!(up.next_hops[0].installed);
    let same = sources.document().kernel.unwrap();
    assert_eq!((same.difference, Some(same.observed)), (vec![], same.desired));
    linux.remove_link("nsm-1");
    kernel.settled().await;
    let mut status = kernel.status();
    status.wait_for(|status| status.pending.len() == 1).await.unwrap();
    let down = balancer();
    assert_eq!(down.links[0].state, "missing");
    assert_eq!(down.next_hops[0].withheld.as_deref(), Some("its link nsm-1 does not exist"));
    assert!(!down.next_hops[0].installed);
    let kernel = sources.document().kernel.unwrap();
    let desired = kernel.desired.unwrap();
    assert_eq!((desired.ports, kernel.observed.ports), (vec!["nsm-1".to_owned()], vec![]));
    assert_eq!(desired.next_hops.len(), 1);
    let peer = "load balancer px-lb-lb-1";
    let expected = [
        format!("{peer}: link nsm-1 does not exist"),
        format!("{peer}: next hop 172.16.1.2 is left out: its link nsm-1 does not exist"),
    ];
    assert_eq!(kernel.difference, expected);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_has_its_path() {
    let tasks = Tasks::default();
    let parts = parts("px", &tasks).unwrap();
    let _port = parts.kernel.port(&PeerId::target("id0"), "nsm-2".parse().unwrap(), Ends::default());
    parts.kernel.settled().await;
    let mut connection = Connection::named("own");
    crate::testing::path(&mut connection, 1, &[Some(600), None]);
    for _ in 0..3 {
        parts.connections.publish("own", (*connection).clone());
    }
    let sources = sources();
    sources.handles().kernel.set(parts.kernel.status()).unwrap();
    assert!(sources.handles().connections.set(parts.connections.clone()).is_ok());
    let target = sources.document().targets.remove(0);
    assert_eq!((target.connection.as_str(), target.links[0].state.as_str()), ("id0", "missing"));
    assert_eq!(target.path.iter().map(|hop| hop.name.as_str()).collect::<Vec<_>>(), ["hop0", "hop1"]);
    assert_eq!(target.expires, target.path[0].expires);
    assert!(target.expires.is_some());
    assert_eq!((target.refreshes, target.since.is_some(), target.time.is_some()), (2, true, true));
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leases_are_listed_by_name_up_to_a_bound() {
    let tasks = Tasks::default();
    let parts = parts("px", &tasks).unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let sources = sources();
    sources.handles().leases.set(parts.leases.status()).unwrap();
    sources.handles().list.set(parts.leases.list()).unwrap();
    let lease = parts.leases.acquire("a-src", deadline).await.unwrap();
    let leases = sources.document().leases.unwrap();
    let [listed] = &leases.list[..] else { panic!("{leases:?}") };
    assert_eq!((listed.name.as_str(), listed.state.as_str(), listed.holders), ("a-src", "held", 1));
    let addresses: Vec<_> = lease.addresses().iter().map(|(_, net)| net.to_string()).collect();
    assert_eq!(listed.addresses, addresses);
    let mut status = parts.leases.status();
    drop(lease);
    status.wait_for(|status| status.releasing == 1).await.unwrap();
    assert_eq!(sources.document().leases.unwrap().list[0].state, "releasing");
    status.wait_for(|status| status.releasing == 0).await.unwrap();
    assert_eq!(sources.document().leases.unwrap().list, []);
    let listed = ipam::Listed {
        state: "held",
        holders: 1,
        addresses: Vec::new(),
        moved: Vec::new(),
        unverified: false,
    };
    let many = (0..300).map(|n| (format!("t{n}").into(), listed.clone())).collect();
    assert_eq!(services::leases(&ipam::Status::default(), &many).list.len(), 256);
    tasks.stop().await;
}

/// With `UPDATE=1`, writes the schema.
#[test]
fn the_schema_is_the_committed_one() {
    let schema = serde_json::to_string_pretty(&schema_for!(Document)).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/state.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &schema).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap_or_default(),
        schema,
        "UPDATE=1 cargo test the_schema writes it"
    );
}

#[test]
fn the_identity_has_the_age_of_its_bundles() {
    let identity = Authority::new("a.test").identity("px");
    let shown = services::identity(&identity.subscribe().borrow());
    assert_eq!(shown.bundles, [("a.test".to_owned(), 1)].into());
    assert!(shown.received.is_some() && shown.error.is_none(), "{shown:?}");
}
