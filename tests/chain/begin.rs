// SPDX-License-Identifier: Apache-2.0

//! Tests the promises of `begin`, one sentence each.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use nsm::{
    api::{Connection, PathSegment, State},
    chain::{
        Call, Chain, Close, Element, EventKind, Next, Origin, Owner, Reason, Request, Result,
        begin::{Begin, BeginLayer},
        metadata::MetadataLayer,
    },
    task::{Task, Tasks},
};
use tokio::time::Instant;
use tower::Service;
use tower_layer::Layer;

use crate::{
    samples::Refresh,
    world::{Lever, World, close, ms, request},
};

struct Rig {
    world: World,
    lever: Lever,
    tasks: Tasks,
    begin: Begin,
}

fn rig(make: fn(Tasks) -> BeginLayer) -> Rig {
    let world = World::default();
    let lever = Lever::default();
    let tasks = Tasks::default();
    let rest = MetadataLayer.layer(Chain::new().with(lever.clone()).end(world.service()).build().unwrap());
    let begin = make(tasks.clone()).layer(rest);
    Rig { world, lever, tasks, begin }
}

impl Rig {
    async fn request(&self, id: &str) -> Result<Box<Connection>> {
        self.begin.clone().call(Call::Request(request(id, 15_000))).await
    }

    async fn close(&self, id: &str) -> Result<Box<Connection>> {
        self.begin.clone().call(Call::Close(close(id))).await
    }

    fn ask(&self, request: Request) -> nsm::chain::begin::BeginFuture {
        self.begin.clone().call(Call::Request(request))
    }

    /// Waits until nothing is left.
    async fn empty(self) {
        ms(1).await;
        assert_eq!((self.begin.lanes(), self.tasks.len(), self.world.good()), (0, 0, 0));
        assert_eq!(self.world.wrong(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_no_half_effect() {
    let rig = rig(BeginLayer::client);
    rig.world.script([(100, false)]);
    let left = tokio::time::timeout(Duration::from_millis(10), rig.request("a")).await;
    assert!(left.is_err());
    ms(200).await;
    assert_eq!((rig.world.good(), rig.begin.lanes()), (1, 1), "it stays until it is closed");
    rig.close("a").await.unwrap();
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn what_expires_in_the_queue_is_not_started_but_a_close_is() {
    let rig = rig(BeginLayer::client);
    rig.world.script([(1000, false)]);
    let first = rig.ask(request("a", 5000));
    let mut late = Box::pin(rig.ask(request("a", 500))); // kept after it has completed
    let mut shut = close("a");
    shut.context.deadline = Instant::now() + Duration::from_millis(500);
    let shut = rig.begin.clone().call(Call::Close(shut));
    let (first, late, shut) = tokio::join!(first, &mut late, shut);
    assert!(first.is_ok());
    assert!(matches!(late.unwrap_err().reason(), Reason::Deadline));
    assert!(matches!(shut.unwrap_err().reason(), Reason::Deadline));
    ms(1000).await;
    assert_eq!(rig.world.seen(), ["request a", "close a"]);
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn eight_calls_wait_one_close_and_one_event_of_a_kind() {
    let rig = rig(BeginLayer::client);
    rig.request("a").await.unwrap();
    rig.world.script([(1000, false)]);
    let mut calls: Vec<_> = (0..1).map(|_| rig.ask(request("a", 9000))).collect();
    ms(1).await; // the first is in progress
    calls.extend((0..8).map(|_| rig.ask(request("a", 9000))));
    let ninth = rig.ask(request("a", 9000)).await;
    assert!(matches!(ninth.unwrap_err().reason(), Reason::Exhausted(_)));
    let heal = rig.lever.of("a").request(EventKind::Heal);
    let again = rig.lever.of("a").request(EventKind::Heal).await;
    assert!(matches!(again.unwrap_err().reason(), Reason::Pending));
    let shut = rig.begin.clone().call(Call::Close(close("a")));
    let more = rig.begin.clone().call(Call::Close(close("a"))).await;
    assert!(matches!(more.unwrap_err().reason(), Reason::Exhausted(_)));
    for call in calls {
        call.await.unwrap();
    }
    heal.await.unwrap();
    shut.await.unwrap();
    rig.empty().await;
}

fn of(owner: &str, mut request: Request) -> Request {
    request.context.extensions.insert(Owner::new(owner));
    request
}

#[tokio::test(start_paused = true)]
async fn calls_of_another_owner_take_no_place_in_the_queue() {
    let rig = rig(BeginLayer::endpoint);
    rig.world.script([(1000, false)]);
    let first = rig.ask(of("first", request("a", 9000)));
    for _ in 0..20 {
        let other = rig.ask(of("other", request("a", 9000))).await.unwrap_err();
        assert!(matches!(other.reason(), Reason::Denied(_)));
        assert_eq!(other.to_string(), "the connection belongs to `first`, the caller is `other` [a]");
        let nobody = rig.close("a").await.unwrap_err();
        assert!(matches!(nobody.reason(), Reason::Denied(_)), "{nobody}");
    }
    let again = rig.ask(of("first", request("a", 9000)));
    first.await.unwrap();
    again.await.unwrap();
    let Request { connection, context, .. } = of("first", request("a", 9000));
    rig.begin.clone().call(Call::Close(Close { connection, context })).await.unwrap();
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn close_of_the_unknown_is_ok_and_reaches_nobody() {
    let rig = rig(BeginLayer::endpoint);
    rig.close("a").await.unwrap();
    assert!(rig.world.seen().is_empty());
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_request_leaves_nothing() {
    let rig = rig(BeginLayer::client);
    rig.world.script([(10, true)]);
    let error = rig.request("a").await.unwrap_err();
    assert_eq!(error.to_string(), "end: as scripted [a]");
    rig.close("a").await.unwrap();
    assert_eq!(rig.world.seen(), ["request a"]);
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_deadline_is_cut_after_15_seconds() {
    let rig = rig(BeginLayer::client);
    rig.world.script([(60_000, false)]);
    let start = Instant::now();
    let error = rig.ask(Request::new(Connection::named("a"))).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Deadline));
    assert_eq!(start.elapsed().as_secs(), 15);
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_that_fails_is_tried_again_until_it_is_done() {
    let rig = rig(BeginLayer::client);
    rig.request("a").await.unwrap();
    rig.world.script([(0, true), (0, true), (0, true)]);
    assert!(rig.close("a").await.is_err());
    let ended = rig.lever.of("a").request(EventKind::Heal).await.unwrap_err();
    assert!(matches!(ended.reason(), Reason::Ended), "events do not revive it");
    ms((200 + 400 + 800) * 12 / 10 + 10).await; // with jitter
    let origins: Vec<_> = rig.world.take().into_iter().map(|(what, _, by)| (what, by)).collect();
    let again = ("close a".to_owned(), Origin::Event(EventKind::Closing));
    assert_eq!(origins[1..], [("close a".to_owned(), Origin::Caller), again.clone(), again.clone(), again]);
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_that_never_gets_through_ends_when_the_path_expires() {
    let rig = rig(BeginLayer::client);
    let mut ask = request("a", 1000);
    let expires = SystemTime::now() + Duration::from_secs(60);
    let segment = PathSegment { expires: Some(expires.into()), ..Default::default() };
    ask.connection.path_mut().path_segments = vec![segment];
    rig.ask(ask).await.unwrap();
    rig.world.script(std::iter::repeat_n((10, true), 1000));
    assert!(rig.close("a").await.is_err());
    ms(59_000).await;
    assert_eq!(rig.begin.lanes(), 1);
    ms(2_000).await;
    assert_eq!((rig.begin.lanes(), rig.tasks.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_meets_closing_starts_as_new_on_the_same_path() {
    let rig = rig(BeginLayer::client);
    let mut ask = request("a", 1000);
    ask.connection.path_mut().path_segments = vec![Default::default(); 3];
    ask.connection.mechanism = Some(Default::default());
    rig.ask(ask).await.unwrap();
    rig.world.script([(0, true)]);
    assert!(rig.close("a").await.is_err());
    rig.world.take();
    let answer = rig.request("a").await.unwrap();
    assert_eq!(answer.state(), State::Up);
    let (what, asked, _) = rig.world.take().remove(0);
    assert_eq!((&*what, asked.segments().len(), asked.state()), ("request a", 3, State::ReselectRequested));
    assert_eq!(asked.mechanism, None);
    ms(10_000).await;
    assert!(rig.world.seen().is_empty(), "the Close is not tried any more");
    rig.close("a").await.unwrap();
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_closes_first_when_a_reselect_comes() {
    let rig = rig(BeginLayer::endpoint);
    rig.request("a").await.unwrap();
    let mut ask = request("a", 1000);
    ask.connection.set_state(State::ReselectRequested);
    assert_eq!(rig.ask(ask).await.unwrap().state(), State::Up);
    assert_eq!(rig.world.seen(), ["request a", "close a", "request a"]);
    rig.close("a").await.unwrap();
    rig.empty().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_merges_and_an_event_keeps_what_the_caller_was_told() {
    let rig = rig(BeginLayer::client);
    let told = rig.request("a").await.unwrap();
    rig.lever.of("a").reselect(EventKind::Heal, false).await.unwrap();
    assert_eq!(rig.world.seen(), ["request a", "close a", "request a"]);
    let mut ask = request("a", 1000);
    ask.connection = told.clone();
    ask.connection.context_mut().mtu = 9000;
    let answer = rig.ask(ask).await.unwrap();
    let (_, asked, _) = rig.world.take().remove(0);
    assert_ne!(asked.payload, told.payload, "what the event changed stays");
    assert_eq!(answer.context.unwrap().mtu, 9000);
    rig.close("a").await.unwrap();
    rig.empty().await;
}

/// Closes the connection half a second after the last good Request, as a timeout does.
struct Impatient;
struct Timer(#[expect(dead_code, reason = "a guard")] Task);
impl Element for Impatient {
    const NAME: &'static str = "impatient";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let events = request.context.events.clone();
        let answer = next.request(request).await?;
        scope.insert(Timer(events.spawn(|events| async move {
            ms(500).await;
            let _ended = events.close(EventKind::Timeout).await;
        })));
        Ok(answer)
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_timer_that_was_replaced_is_void() {
    let world = World::default();
    let tasks = Tasks::default();
    let rest = Chain::new().with(Impatient).end(world.service()).build().unwrap();
    let mut begin = BeginLayer::endpoint(tasks.clone()).layer(rest);
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    ms(400).await;
    world.script([(200, false)]); // the timer fires while the refresh is in progress
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    ms(400).await;
    assert_eq!(world.seen(), ["request a", "request a"], "refreshed in time, so not closed");
    ms(200).await;
    assert_eq!(world.seen(), ["close a"]);
    assert_eq!((begin.lanes(), tasks.len()), (0, 0));
}

struct Panics;
impl Element for Panics {
    const NAME: &'static str = "panics";
    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        assert_ne!(close.context.origin, Origin::Caller, "a bug");
        next.close(close).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_of_its_call_and_the_lane_goes_on() {
    let world = World::default();
    let tasks = Tasks::default();
    let rest = Chain::new().with(Panics).end(world.service()).build().unwrap();
    let mut begin = BeginLayer::endpoint(tasks.clone()).layer(rest);
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    let error = begin.call(Call::Close(close("a"))).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Panicked(_)), "{error}");
    ms(300).await;
    assert_eq!((begin.lanes(), tasks.len(), world.good()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_goes_on_until_the_close() {
    let world = World::default();
    let tasks = Tasks::default();
    let refresh = Refresh(Duration::from_secs(10));
    let rest = MetadataLayer.layer(Chain::new().with(refresh).end(world.service()).build().unwrap());
    let mut begin = BeginLayer::client(tasks.clone()).layer(rest);
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    world.script([(0, true), (0, true)]);
    ms(12_500).await; // fails at 10 and 11, succeeds at 12
    assert_eq!(world.seen().len(), 1 + 3);
    ms(10_000).await;
    assert_eq!(world.seen().len(), 1);
    begin.call(Call::Close(close("a"))).await.unwrap();
    ms(60_000).await;
    assert_eq!(world.seen(), ["close a"]);
    assert_eq!((begin.lanes(), tasks.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_no_task_and_no_waiter() {
    let rig = rig(BeginLayer::client);
    rig.request("a").await.unwrap();
    rig.world.script([(1000, false)]);
    let at_work = rig.ask(request("a", 9000));
    let waiting = rig.ask(request("a", 9000));
    ms(1).await;
    rig.tasks.stop().await;
    for call in [at_work, waiting] {
        assert!(matches!(call.await.unwrap_err().reason(), Reason::Ended));
    }
    assert_eq!((rig.begin.lanes(), rig.tasks.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_has_the_timeout_of_the_first_call() {
    let rig = rig(BeginLayer::client);
    rig.ask(request("a", 700)).await.unwrap();
    rig.ask(request("a", 9000)).await.unwrap();
    rig.world.script([(60_000, false)]);
    let start = Instant::now();
    let error = rig.lever.of("a").request(EventKind::Heal).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Deadline));
    assert_eq!(start.elapsed().as_millis(), 700);
    rig.close("a").await.unwrap();
    rig.empty().await;
}

/// Holds a lease for as long as there is a connection, and traffic until a Close is requested.
#[derive(Clone, Default)]
struct Traffic(Arc<Mutex<Vec<&'static str>>>);
struct Lease(Traffic);
struct Carries(Traffic);
impl Drop for Lease {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push("lease released");
    }
}
impl Drop for Carries {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().push("traffic withdrawn");
    }
}
impl Element for Traffic {
    const NAME: &'static str = "traffic";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        if scope.get::<Lease>().is_none() {
            scope.insert(Lease(self.clone()));
        }
        let answer = next.request(request).await?;
        if scope.get::<Carries>().is_none() {
            scope.insert(Carries(self.clone()));
        }
        Ok(answer)
    }
    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        drop(close.context.scope.take::<Carries>());
        next.close(close).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_close_has_withdrawn_traffic_and_keeps_the_lease() {
    let world = World::default();
    let tasks = Tasks::default();
    let traffic = Traffic::default();
    let rest = MetadataLayer.layer(Chain::new().with(traffic.clone()).end(world.service()).build().unwrap());
    let mut begin = BeginLayer::client(tasks.clone()).layer(rest);
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    world.script([(0, true), (0, false), (0, true)]);
    assert!(begin.call(Call::Close(close("a"))).await.is_err());
    assert_eq!(*traffic.0.lock().unwrap(), ["traffic withdrawn"]);
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    assert!(begin.call(Call::Close(close("a"))).await.is_err());
    ms(300).await;
    let lines = ["traffic withdrawn", "traffic withdrawn", "lease released"];
    assert_eq!(*traffic.0.lock().unwrap(), lines);
    assert_eq!((begin.lanes(), tasks.len()), (0, 0));
}

/// Records whether the traffic of the enclosing chain is visible.
struct Sees(Arc<Mutex<Vec<bool>>>);
impl Element for Sees {
    const NAME: &'static str = "sees";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        self.0.lock().unwrap().push(scope.get::<Lease>().is_some());
        let answer = next.request(request).await;
        self.0.lock().unwrap().push(scope.get::<Lease>().is_some());
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn a_nested_begin_has_its_own_scope() {
    let tasks = Tasks::default();
    let seen = Arc::default();
    let client = Chain::new()
        .with(BeginLayer::client(tasks.clone()))
        .with(Sees(Arc::clone(&seen)))
        .end(World::default().service())
        .build()
        .unwrap();
    let chain = Chain::new()
        .with(BeginLayer::endpoint(tasks.clone()))
        .with(Traffic::default())
        .with(Sees(Arc::clone(&seen)))
        .end(client)
        .build()
        .unwrap();
    chain.request(request("a", 1000)).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [true, false, false, true]);
    chain.close(close("a")).await.unwrap();
    ms(1).await;
    assert_eq!(tasks.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_reselect_keeps_the_connection_and_is_retried() {
    let rig = rig(BeginLayer::client);
    let mut ask = request("a", 1000);
    ask.connection.mechanism = Some(Default::default());
    ask.connection.network_service_endpoint_name = "lb".into();
    rig.ask(ask.clone()).await.unwrap();
    rig.world.script([(0, false), (0, true)]);
    assert!(rig.lever.of("a").reselect(EventKind::Heal, true).await.is_err());
    assert_eq!((rig.world.good(), rig.begin.lanes()), (0, 1));
    rig.world.take();
    rig.ask(ask).await.unwrap();
    let (_, asked, _) = rig.world.take().remove(0);
    assert_eq!((asked.mechanism.clone(), asked.state()), (None, State::ReselectRequested));
    assert_eq!(asked.network_service_endpoint_name, "lb");
    rig.lever.of("a").reselect(EventKind::Heal, false).await.unwrap();
    rig.close("a").await.unwrap();
    rig.empty().await;
}

/// Records the version that it finds, and stores the next.
#[derive(Clone, Default)]
struct Versions(Arc<Mutex<Vec<usize>>>);
struct Version(usize);
impl Element for Versions {
    const NAME: &'static str = "versions";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = &request.context.scope;
        let found = scope.get::<Version>().map_or(0, |version| version.0);
        self.0.lock().unwrap().push(found);
        scope.insert(Version(self.0.lock().unwrap().len()));
        next.request(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_leaves_what_was_before_to_the_next() {
    let world = World::default();
    let tasks = Tasks::default();
    let versions = Versions::default();
    let rest = MetadataLayer.layer(Chain::new().with(versions.clone()).end(world.service()).build().unwrap());
    let mut begin = BeginLayer::client(tasks.clone()).layer(rest);
    let mut ask = || begin.call(Call::Request(request("a", 5000)));
    world.script([(5, true), (5, false), (5, true), (5, false)]);
    let (one, two, three, four) = tokio::join!(ask(), ask(), ask(), ask());
    assert!(one.is_err() && two.is_ok() && three.is_err() && four.is_ok());
    assert_eq!(*versions.0.lock().unwrap(), [0, 0, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_behind_a_close_starts_as_new() {
    let world = World::default();
    let tasks = Tasks::default();
    let versions = Versions::default();
    let rest = MetadataLayer.layer(Chain::new().with(versions.clone()).end(world.service()).build().unwrap());
    let mut begin = BeginLayer::client(tasks.clone()).layer(rest);
    begin.call(Call::Request(request("a", 5000))).await.unwrap();
    world.script([(100, false)]);
    let shut = begin.call(Call::Close(close("a")));
    let again = begin.call(Call::Request(request("a", 5000)));
    let (shut, again) = tokio::join!(shut, again);
    assert!(shut.is_ok() && again.is_ok());
    assert_eq!(*versions.0.lock().unwrap(), [0, 0]);
    assert_eq!((begin.lanes(), tasks.len()), (1, 1));
}

#[test]
fn a_call_that_comes_when_the_runtime_has_stopped_ends() {
    let (ended, end) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let rig = rig(BeginLayer::client);
    let handle = runtime.handle().clone();
    drop(runtime);
    std::thread::spawn(move || {
        let _entered = handle.enter();
        let _answer = rig.ask(request("a", 1000));
        ended.send(rig.begin.lanes()).unwrap();
    });
    assert_eq!(end.recv_timeout(Duration::from_secs(10)), Ok(0), "the lane is dropped where it is made");
}
