// SPDX-License-Identifier: Apache-2.0

//! Requests over the endpoint's unix socket with mTLS: first ones, and refreshes without a pause.
//!
//! Each dials, as NSM's clients do: socket, handshake, token, Request, answer. No link is made.

use std::time::{Duration, Instant};

use futures::future::join_all;
use meridio_lab::{control_plane::registration::dialer, topology::proxy_service};
use nsm::{
    api::{Connection, Mechanism, MechanismKind},
    chain::{CallContext, Close, Next, Request, causes},
    chains,
    elements::{
        mechanism::{self, Names},
        send_fd,
    },
    task::Tasks,
    transport::Address,
};

use super::{
    Plan,
    figures::{Figures, milliseconds},
    place::Place,
};

/// Name of the callers' pod.
const CALLER: &str = "caller";
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const ATTEMPTS: usize = 3;

/// A chain that calls the endpoint directly, and only when it is called itself.
fn chain(place: &mut Place, tasks: &Tasks) -> Next {
    let target = Address::Unix(place.endpoint());
    let folder = place.world.fabric.client.folder.join(CALLER);
    std::fs::create_dir_all(&folder).unwrap();
    let identity = place.world.agent.identity(CALLER, &folder, tasks).unwrap();
    let netns = send_fd::Netns::of(place.world.fabric.client.netns.descriptor()).unwrap();
    chains::client(CALLER, dialer(&target, &identity), tasks)
        .without("trace")
        .without("refresh")
        .without("heal")
        .append(mechanism::Client::new(Names::new(|_| false)))
        .append(send_fd::Client::new(netns))
        .build()
        .unwrap()
}

/// Repeats a Request that fails: Go's descriptor transport sometimes closes a file twice. The time
/// of the repetitions counts.
async fn request(chain: &Next, connection: Box<Connection>) -> Box<Connection> {
    for _ in 0..ATTEMPTS {
        let preferences = vec![Mechanism::local(MechanismKind::Kernel)];
        let context = CallContext::within(CALL_TIMEOUT);
        match chain.request(Request { connection: connection.clone(), preferences, context }).await {
            Ok(answer) => return answer,
            Err(error) => eprintln!("{}", causes(&error)),
        }
    }
    panic!("{ATTEMPTS} Requests in a row failed");
}

async fn connect(chain: &Next, number: usize) -> Box<Connection> {
    let mut connection = Connection::named(format!("{CALLER}-{number}"));
    connection.network_service = proxy_service();
    connection.payload = "ETHERNET".into();
    request(chain, connection).await
}

/// Refreshes a connection repeatedly; returns the duration of each refresh.
async fn refresh(chain: &Next, connection: Box<Connection>, until: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let start = Instant::now();
        request(chain, connection.clone()).await;
        times.push(start.elapsed());
    }
    times
}

#[allow(clippy::cast_precision_loss)]
pub(crate) async fn measure(place: &mut Place, plan: Plan, figures: &mut Figures) {
    let tasks = Tasks::default();
    let chain = chain(place, &tasks);
    let mut times = Vec::new();
    let mut connections = Vec::new();
    for number in 0..plan.alone.max(plan.refreshed) {
        let start = Instant::now();
        connections.push(connect(&chain, number).await);
        times.push(start.elapsed());
    }
    figures.add_times("a first Request to the endpoint", times);

    let first = connections.len();
    let start = Instant::now();
    let at_once = (first..first + plan.at_once).map(async |number| {
        let connection = connect(&chain, number).await;
        (connection, start.elapsed())
    });
    let (joined, times): (Vec<_>, Vec<_>) = join_all(at_once).await.into_iter().unzip();
    connections.extend(joined);
    figures.add_times(&format!("{} first Requests to the endpoint at once", plan.at_once), times);

    place.world.ipam.set_store(Duration::ZERO).await;
    let start = Instant::now();
    let before = place.processor();
    let refreshed = connections.iter().take(plan.refreshed);
    let until = start + plan.during;
    let times = join_all(refreshed.map(|connection| refresh(&chain, connection.clone(), until))).await;
    let times = times.concat();
    let took = start.elapsed();
    let processor = place.processor() - before;
    let requests = times.len() as f64;
    figures.add("refreshes without a pause: per second", requests / took.as_secs_f64());
    figures.add_times("refreshes without a pause", times);
    figures.add("refreshes without a pause: processor ms for each", milliseconds(processor) / requests);

    for connection in connections {
        let close = Close { connection, context: CallContext::within(CALL_TIMEOUT) };
        chain.close(close).await.unwrap();
    }
    tasks.stop().await;
}
