// SPDX-License-Identifier: Apache-2.0

//! Tests the element in a client chain, with peers under the test's control.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures::{StreamExt, stream::BoxStream};
use tokio::{sync::watch, time::sleep};
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::*;
use crate::{
    api::{
        State,
        pb::connection::{ConnectionEvent, ConnectionEventType},
    },
    chain::{Call, Chain, Error, Reason, begin::BeginLayer, laws, metadata::MetadataLayer},
    elements::{connect::Connect, monitor::Monitor, update_path::UpdatePath},
    server::monitor::Connections,
    task::Tasks,
    testing::{self, eventually},
};

/// The scripted behaviour of peers and links, and the calls they received.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    streams: VecDeque<monitor::Events>, // when empty, a stream that stays open and silent
    opened: usize,
    refuse: Option<fn() -> Error>,
    log: Vec<String>,
    link: watch::Sender<Verdict>,
    doubts: Arc<()>, // one more for each that is held
}

impl Peers for World {
    fn watch(&self, _: &Scope, _: MonitorScopeSelector) -> Option<monitor::Events> {
        let mut script = self.0.lock().unwrap();
        script.opened += 1;
        Some(script.streams.pop_front().unwrap_or_else(|| futures::stream::pending().boxed()))
    }
}

impl Liveness for World {
    fn watch(&self, _: &Connection) -> BoxStream<'static, Verdict> {
        WatchStream::new(self.0.lock().unwrap().link.subscribe()).boxed()
    }

    fn doubt(&self, _: &Connection) -> Doubt {
        Box::new(Arc::clone(&self.0.lock().unwrap().doubts))
    }
}

impl World {
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().log)
    }

    fn refuse(&self, with: Option<fn() -> Error>) {
        self.0.lock().unwrap().refuse = with;
    }

    /// The verdict on the link.
    fn link(&self, verdict: Verdict) {
        self.0.lock().unwrap().link.send_replace(verdict);
    }

    fn doubts(&self) -> usize {
        Arc::strong_count(&self.0.lock().unwrap().doubts) - 1
    }

    /// The streams of the next watches.
    fn streams(&self, streams: impl IntoIterator<Item = monitor::Events>) {
        self.0.lock().unwrap().streams.extend(streams);
    }

    async fn answer(self, call: Call) -> Result<Box<Connection>> {
        let connection = call.connection();
        let state = connection.state();
        let endpoint = &connection.network_service_endpoint_name;
        let word = match &call {
            Call::Close(_) => "close".to_owned(),
            Call::Request(_) if state == State::ReselectRequested => format!("reselect {endpoint}"),
            Call::Request(_) => "request".to_owned(),
        };
        let mut script = self.0.lock().unwrap();
        script.log.push(word);
        match (script.refuse, &call) {
            (Some(refuse), Call::Request(_)) => Err(refuse()),
            (None, Call::Request(_)) if state == State::ReselectRequested => {
                script.link.send_replace(Verdict::Alive); // a new link is alive
                Ok(call.into_connection())
            }
            _ => Ok(call.into_connection()),
        }
    }

    fn chain(&self, verdict: Verdict, tasks: &Tasks) -> Next {
        self.chain_of(verdict, true, tasks)
    }

    fn chain_of(&self, verdict: Verdict, keep_endpoint: bool, tasks: &Tasks) -> Next {
        self.link(verdict);
        let world = self.clone();
        let end = tower::service_fn(move |call: Call| world.clone().answer(call));
        let liveness: Arc<dyn Liveness> = Arc::new(self.clone());
        let settings = Settings { liveness: Some(liveness), keep_endpoint, ..Settings::default() };
        let heal = Heal { settings, peers: Arc::new(self.clone()) };
        let rows = Chain::new().with(BeginLayer::client(tasks.clone())).with(MetadataLayer);
        rows.with(heal).end(end).build().unwrap()
    }
}

fn lb() -> Box<Connection> {
    let mut connection = Connection::named("own");
    testing::path(&mut connection, 0, &[None, None]);
    connection.network_service_endpoint_name = "lb-1".into();
    connection
}

/// A stream that ends after so many seconds.
fn ends_after(seconds: u64) -> monitor::Events {
    let wait = sleep(Duration::from_secs(seconds));
    futures::stream::once(wait).filter_map(|()| async { None }).boxed()
}

/// A stream with one event about the connection at the next hop, after a second; then it stays
/// open.
fn says(kind: ConnectionEventType, next: &str) -> monitor::Events {
    let mut connection = *lb();
    connection.path_mut().index = 1;
    connection.path_mut().path_segments[1].id = next.into();
    let event = ConnectionEvent { r#type: kind.into(), connections: [("x".to_owned(), connection)].into() };
    let later = async move {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, Status>(event)
    };
    futures::stream::once(later).chain(futures::stream::pending()).boxed()
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_request_is_repeated_while_the_link_may_carry_traffic() {
    for verdict in [Verdict::Unknown, Verdict::Alive] {
        let world = World::default();
        let tasks = Tasks::default();
        world.streams([ends_after(60)]);
        let chain = world.chain(verdict, &tasks);
        chain.request(Request::new(lb())).await.unwrap();
        seconds(59).await;
        assert_eq!(world.log(), ["request"]);
        seconds(2).await;
        assert_eq!(world.log(), ["request"]);
        seconds(600).await;
        assert_eq!(world.log(), [""; 0], "once");
        assert_eq!(world.0.lock().unwrap().opened, 2, "the new wire is watched");
        chain.close(Close::new(lb())).await.unwrap();
        assert_eq!((world.log(), tasks.len()), (vec!["close".to_owned()], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_is_made_again_to_the_same_endpoint() {
    let world = World::default();
    let tasks = Tasks::default();
    let chain = world.chain(Verdict::Alive, &tasks);
    chain.request(Request::new(lb())).await.unwrap();
    seconds(60).await;
    world.log();
    world.link(Verdict::Dead);
    seconds(4).await;
    assert_eq!(world.log(), ["close", "reselect lb-1"]);
    seconds(600).await;
    assert_eq!(world.log(), [""; 0], "the new link lives");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_soon_answers_again_is_kept() {
    let world = World::default();
    let tasks = Tasks::default();
    let chain = world.chain(Verdict::Alive, &tasks);
    chain.request(Request::new(lb())).await.unwrap();
    world.log();
    for _ in 0..300 {
        for verdict in [Verdict::Dead, Verdict::Alive] {
            world.link(verdict);
            sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(world.log(), [""; 0], "it flapped ten times a second");
    world.link(Verdict::Dead);
    seconds(2).await;
    world.link(Verdict::Alive);
    seconds(600).await;
    assert_eq!(world.log(), [""; 0]);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_cause_a_reselect_only_if_the_link_may_be_dead() {
    for (verdict, reselects) in [(Verdict::Unknown, 1), (Verdict::Alive, 0)] {
        let world = World::default();
        let tasks = Tasks::default();
        world.streams([ends_after(60)]);
        let chain = world.chain(verdict, &tasks);
        chain.request(Request::new(lb())).await.unwrap();
        world.refuse(Some(|| Status::unknown("no candidates found").into()));
        seconds(60 + 120).await;
        let log = world.log();
        let close = log.iter().filter(|word| *word == "close").count();
        let tries = log.len() - 1;
        assert_eq!(close, reselects, "{log:?}");
        assert!((12..=20).contains(&tries), "{tries} tries in two minutes: {log:?}");
        world.refuse(None);
        seconds(16).await;
        assert_eq!(world.log().len(), 1, "healed");
        seconds(600).await;
        assert_eq!(world.log(), [""; 0]);
        tasks.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_costs_at_most_six_requests_a_minute() {
    let failures: [fn() -> Error; 2] =
        [|| Status::unknown("endpoint not found").into(), || Status::unavailable("cannot connect").into()];
    for failure in failures {
        let world = World::default();
        let tasks = Tasks::default();
        world.chain(Verdict::Alive, &tasks).request(Request::new(lb())).await.unwrap();
        world.refuse(Some(failure));
        world.link(Verdict::Dead);
        world.log();
        for minute in 0..10 {
            seconds(60).await;
            let log = world.log();
            let closes = log.iter().filter(|word| *word == "close").count();
            assert_eq!(closes, usize::from(minute == 0), "{log:?}");
            assert!((3..=6).contains(&(log.len() - closes)), "{log:?}");
        }
        tasks.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_is_in_doubt_while_a_peer_reports_it_down() {
    let next = lb().segments()[1].id.clone();
    let reported = says(ConnectionEventType::Delete, &next);
    for (stream, doubted) in [(reported, 1), (ends_after(1), 0)] {
        let world = World::default();
        let tasks = Tasks::default();
        world.streams([stream]);
        let chain = world.chain(Verdict::Alive, &tasks);
        chain.request(Request::new(lb())).await.unwrap();
        world.refuse(Some(|| Status::unknown("cannot dial").into()));
        assert_eq!(world.doubts(), 0);
        seconds(30).await;
        assert_eq!(world.doubts(), doubted, "a peer that is not heard says nothing of the link");
        assert!(!world.log().contains(&"close".to_owned()), "the link lives");
        world.refuse(None);
        seconds(16).await;
        assert_eq!(world.doubts(), 0, "healed");
        tasks.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_reached_never_takes_a_link_down() {
    let world = World::default();
    let tasks = Tasks::default();
    world.streams([ends_after(60)]);
    world.chain(Verdict::Unknown, &tasks).request(Request::new(lb())).await.unwrap();
    world.refuse(Some(|| Reason::Unavailable("cannot connect to unix:///nsm.io.sock".into()).into()));
    seconds(60 + 600).await;
    let log = world.log();
    assert!(log.len() > 100 && log.iter().all(|word| word == "request"), "{log:?}");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_link_is_made_again_at_once() {
    let world = World::default();
    let tasks = Tasks::default();
    world.streams([ends_after(60)]);
    world.chain(Verdict::Unknown, &tasks).request(Request::new(lb())).await.unwrap();
    world.refuse(Some(|| Status::unknown("failed to find link load-balan-x: Link not found").into()));
    seconds(60 + 1).await;
    assert_eq!(world.log()[..4], ["request", "request", "close", "reselect lb-1"]);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_endpoint_replaces_a_removed_one_at_once() {
    for (keep, expected) in [
        (false, ["request", "request", "close", "reselect "]),
        (true, ["request", "request", "request", "request"]),
    ] {
        let world = World::default();
        let tasks = Tasks::default();
        world.streams([ends_after(1)]);
        world.chain_of(Verdict::Unknown, keep, &tasks).request(Request::new(lb())).await.unwrap();
        world.refuse(Some(|| Status::unknown("network service endpoint lb-1 not found").into()));
        seconds(3).await;
        assert_eq!(world.log()[..4], expected, "keep: {keep}");
        tasks.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_delete_of_our_own_connection_is_a_break() {
    let world = World::default();
    let tasks = Tasks::default();
    let next = lb().segments()[1].id.clone();
    world.streams([says(ConnectionEventType::Delete, "older"), says(ConnectionEventType::Delete, &next)]);
    let chain = world.chain(Verdict::Unknown, &tasks);
    chain.request(Request::new(lb())).await.unwrap();
    seconds(60).await;
    assert_eq!(world.log(), ["request"]);
    chain.request(Request::new(lb())).await.unwrap();
    seconds(60).await;
    assert_eq!(world.log(), ["request", "request"], "a plain one: no Close, no reselect");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_but_does_not_monitor_makes_no_hot_loop() {
    let world = World::default();
    let tasks = Tasks::default();
    world.streams((0..10_000).map(|_| {
        futures::stream::once(async { Err(Status::unimplemented("no MonitorConnections")) }).boxed()
    }));
    world.chain(Verdict::Unknown, &tasks).request(Request::new(lb())).await.unwrap();
    seconds(600).await;
    let requests = world.log().len();
    assert!((20..=40).contains(&requests), "{requests} Requests in ten minutes");
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_the_watch_that_was_there() {
    let world = World::default();
    let tasks = Tasks::default();
    world.streams([ends_after(60)]);
    let chain = world.chain(Verdict::Unknown, &tasks);
    chain.request(Request::new(lb())).await.unwrap();
    world.refuse(Some(|| Status::unknown("no").into()));
    chain.request(Request::new(lb())).await.unwrap_err();
    world.refuse(None);
    world.log();
    seconds(61).await;
    assert_eq!(world.log(), ["request"], "it noticed the end of the stream");
    tasks.stop().await;
}

#[tokio::test]
async fn the_wire_of_the_last_request_is_the_one_that_is_watched() {
    let theirs = Connections::default();
    let tasks = Tasks::default();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let end = tower::service_fn(move |call: Call| {
        counted.fetch_add(usize::from(matches!(call, Call::Request(_))), SeqCst);
        async { Ok::<_, Error>(call.into_connection()) }
    });
    let begin = |begin| Chain::new().with(begin).with(MetadataLayer);
    let peer = begin(BeginLayer::endpoint(tasks.clone()))
        .with(Monitor::new(theirs.clone()))
        .end(end)
        .build()
        .unwrap();
    let peer = Chain::new().with(UpdatePath::new("peer")).end(peer).build().unwrap();
    let peer = testing::serve_monitored(peer, theirs.clone()).await;
    let heal = Heal::new(Settings::default());
    let chain = begin(BeginLayer::client(tasks.clone()))
        .with(heal)
        .end(Connect::new(peer.dialer.clone()))
        .build()
        .unwrap();

    let mut connection = lb();
    testing::path(&mut connection, 0, &[None]);
    let answer = chain.request(Request::new(connection)).await.unwrap();
    for refresh in 2..4 {
        eventually(|| theirs.streams(), |streams| *streams == 1).await;
        theirs.down(&answer.segments()[1].id);
        eventually(|| requests.load(SeqCst), |requests| *requests == refresh).await;
    }
    tasks.stop().await;
    eventually(|| theirs.streams(), |streams| *streams == 0).await;
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_laws() {
    let opened = Arc::new(AtomicUsize::new(0));
    /// A stream that counts itself while it is open.
    struct Counted(Arc<AtomicUsize>);
    impl Peers for Counted {
        fn watch(&self, _: &Scope, _: MonitorScopeSelector) -> Option<monitor::Events> {
            struct Open(Arc<AtomicUsize>);
            impl Drop for Open {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, SeqCst);
                }
            }
            self.0.fetch_add(1, SeqCst);
            let open = Open(Arc::clone(&self.0));
            let silent = futures::stream::pending::<Result<ConnectionEvent, Status>>();
            Some(silent.inspect(move |_| _ = &open).boxed())
        }
    }
    laws::check_with(
        || Heal { settings: Settings::default(), peers: Arc::new(Counted(Arc::clone(&opened))) },
        || opened.load(SeqCst),
    )
    .await
    .unwrap();
}
