// SPDX-License-Identifier: Apache-2.0

use std::sync::Mutex;

use tokio::time::sleep;

use super::*;
use crate::{
    api::{Connection, Mechanism, MechanismKind, State, pb::connection::PathSegment},
    chain::{Call, Chain, Error, Reason},
    elements::heal::Verdict,
    transport::{Address, DialError},
};

const S: fn(u64) -> Duration = Duration::from_secs;

/// The calls made, and the scripted results for each load balancer.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    events: Vec<(Instant, String)>,
    requests: Vec<Connection>,
    hang_requests: BTreeSet<String>,
    hang_closes: BTreeSet<String>,
    fail_requests: HashMap<String, usize>,
    left: HashMap<String, Connection>,
    verdicts: HashMap<String, Verdict>,
    unreachable: bool,
}

impl Script {
    fn note(&self, what: &str, name: &str) {
        self.0.lock().unwrap().events.push((Instant::now(), format!("{what} {name}")));
    }

    fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().events.iter().map(|(_, event)| event.clone()).collect()
    }

    fn times(&self, wanted: &str) -> Vec<Instant> {
        let inner = self.0.lock().unwrap();
        inner.events.iter().filter(|(_, event)| event == wanted).map(|(at, _)| *at).collect()
    }

    fn set<T>(&self, change: impl FnOnce(&mut Inner) -> T) {
        let _before = change(&mut self.0.lock().unwrap());
    }

    fn chain(&self) -> Next {
        let script = self.clone();
        let end = tower::service_fn(move |call: Call| script.clone().call(call));
        Chain::new().end(end).build().unwrap()
    }

    async fn call(self, call: Call) -> Result<Box<Connection>, Error> {
        let closing = matches!(call, Call::Close(_));
        let connection = call.into_connection();
        let name = connection.network_service_endpoint_name.clone();
        let (what, hang, fail) = {
            let mut inner = self.0.lock().unwrap();
            if closing {
                ("close", inner.hang_closes.contains(&name), false)
            } else {
                inner.requests.push((*connection).clone());
                let failures = inner.fail_requests.entry(name.clone()).or_default();
                let fail = *failures > 0;
                *failures = failures.saturating_sub(1);
                ("request", inner.hang_requests.contains(&name), fail)
            }
        };
        self.note(what, &name);
        let cancelled = Cancelled(self.clone(), format!("{what} {name}"));
        if hang {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(100)).await;
        std::mem::forget(cancelled);
        self.note(if closing { "closed" } else { "answered" }, &name);
        if fail { Err(Reason::Unavailable("not yet".into()).into()) } else { Ok(connection) }
    }
}

struct Cancelled(Script, String);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.note("cancelled", &self.1);
    }
}

impl Recovery for Script {
    async fn find(&self, id: &str) -> Result<Option<Box<Connection>>, DialError> {
        let inner = self.0.lock().unwrap();
        match inner.unreachable {
            true => Err(DialError::Connect {
                address: Address::Unix("/nsmgr".into()),
                source: std::io::ErrorKind::ConnectionRefused.into(),
            }),
            false => Ok(inner.left.get(id).cloned().map(Box::new)),
        }
    }

    async fn verdict(&self, connection: &Connection) -> Verdict {
        self.0.lock().unwrap().verdicts.get(&connection.id).copied().unwrap_or_default()
    }

    async fn withdraw(&self, connection: &Connection) {
        self.note("withdraw", &connection.id);
    }
}

struct Lab {
    script: Script,
    wanted: watch::Sender<Discovered>,
    mesh: Mesh,
    tasks: Tasks,
}

impl Lab {
    fn start(script: &Script, names: &[&str]) -> Self {
        let tasks = Tasks::default();
        let (sender, wanted) = watch::channel(known(names, true));
        let settings =
            Settings { name: "px".into(), network_service: "lb.t.ns".into(), request_timeout: S(15) };
        let mesh = Mesh::start(
            settings,
            script.chain(),
            script.clone(),
            wanted,
            watch::Sender::new(Status::default()),
            &tasks,
        );
        Self { script: script.clone(), wanted: sender, mesh, tasks }
    }

    fn want(&self, names: &[&str]) {
        self.wanted.send_replace(known(names, true));
    }

    fn connected(&self) -> usize {
        self.mesh.status.borrow().connected()
    }

    async fn end(self) {
        self.mesh.close(Instant::now() + S(60)).await;
        self.tasks.stop().await;
    }
}

fn known(names: &[&str], complete: bool) -> Discovered {
    let endpoints = names.iter().map(|name| ((*name).to_owned(), Arc::default())).collect();
    Discovered { endpoints: Arc::new(endpoints), complete, ..Discovered::default() }
}

#[tokio::test(start_paused = true)]
async fn b10_each_load_balancer_has_one_connection_with_a_stable_id() {
    let lab = Lab::start(&Script::default(), &["lb-1", "lb-2"]);
    sleep(S(30)).await;
    assert_eq!(lab.connected(), 2);
    let mut requests = lab.script.0.lock().unwrap().requests.clone();
    requests.sort_by(|a, b| a.id.cmp(&b.id));
    let expected = ["lb-1", "lb-2"].map(|name| Connection {
        id: format!("px-lb.t.ns-{name}"),
        network_service: "lb.t.ns".into(),
        network_service_endpoint_name: name.into(),
        payload: "ETHERNET".into(),
        ..Connection::default()
    });
    assert_eq!(requests, expected, "no labels, no path, no mechanism");
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn removed_load_balancers_are_closed_and_new_ones_requested() {
    let lab = Lab::start(&Script::default(), &["lb-1"]);
    sleep(S(1)).await;
    lab.want(&["lb-2"]);
    sleep(S(1)).await;
    let mut events = lab.script.events();
    events.sort();
    let expected =
        ["answered lb-1", "answered lb-2", "close lb-1", "closed lb-1", "request lb-1", "request lb-2"];
    assert_eq!(events, expected);
    let status = lab.mesh.status.borrow().clone();
    assert_eq!(status.links.into_iter().collect::<Vec<_>>(), [("lb-2".to_owned(), LinkState::Connected)]);
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn l12_g21_a_hanging_request_or_close_delays_no_other() {
    let script = Script::default();
    script.set(|inner| {
        inner.hang_requests.insert("stuck".into());
        inner.hang_closes.insert("lb-1".into());
    });
    let lab = Lab::start(&script, &["stuck", "lb-1"]);
    sleep(S(1)).await;
    assert_eq!(lab.connected(), 1);
    lab.want(&["stuck", "lb-2"]);
    sleep(S(1)).await;
    assert_eq!(lab.connected(), 1, "lb-2 while lb-1 still closes");
    assert_eq!(lab.mesh.status.borrow().links["lb-1"], LinkState::Closing);
    lab.want(&["stuck", "lb-2", "lb-3"]);
    sleep(S(1)).await;
    assert_eq!(lab.connected(), 2);
    drop(lab.mesh);
    lab.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pending_request_of_a_gone_load_balancer_is_closed() {
    let script = Script::default();
    script.set(|inner| inner.hang_requests.insert("lb-1".into()));
    let lab = Lab::start(&script, &["lb-1"]);
    sleep(S(5)).await;
    lab.want(&[]);
    sleep(S(1)).await;
    assert_eq!(lab.script.events(), ["request lb-1", "cancelled request lb-1", "close lb-1", "closed lb-1"]);
    assert!(lab.mesh.status.borrow().links.is_empty());
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_is_repeated_with_growing_pauses() {
    let script = Script::default();
    script.set(|inner| inner.fail_requests.insert("lb-1".into(), 8));
    let lab = Lab::start(&script, &["lb-1"]);
    sleep(S(1)).await;
    let status = lab.mesh.status.borrow().to_string();
    assert_eq!(status, "0 of 1 load balancers connected; lb-1: end: not yet");
    sleep(S(100)).await;
    assert_eq!(lab.connected(), 1);
    let times = lab.script.times("request lb-1");
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() - 0.1).collect();
    for (pause, expected) in pauses.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]) {
        assert!((expected * 0.79..=expected * 1.21).contains(pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 8);
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_load_balancer_that_returns_is_requested_after_its_close() {
    let lab = Lab::start(&Script::default(), &["lb-1"]);
    sleep(S(1)).await;
    lab.want(&[]);
    sleep(Duration::from_millis(50)).await;
    lab.want(&["lb-1"]);
    sleep(S(1)).await;
    let expected =
        ["request lb-1", "answered lb-1", "close lb-1", "closed lb-1", "request lb-1", "answered lb-1"];
    assert_eq!(lab.script.events(), expected);
    assert_eq!(lab.connected(), 1);
    lab.end().await;
}

fn left(script: &Script, name: &str) {
    let id = format!("px-lb.t.ns-{name}");
    let mut connection = *Connection::named(id.as_str());
    connection.path_mut().path_segments =
        vec![PathSegment { id: id.clone(), ..PathSegment::default() }, PathSegment::default()];
    connection.mechanism = Some(Mechanism::local(MechanismKind::Kernel));
    connection.network_service_endpoint_name = name.into();
    script.set(|inner| inner.left.insert(id, connection));
}

fn verdict(script: &Script, name: &str, verdict: Verdict) {
    script.set(|inner| inner.verdicts.insert(format!("px-lb.t.ns-{name}"), verdict));
}

#[tokio::test(start_paused = true)]
async fn a_recovered_link_that_answers_is_continued_as_it_is() {
    let script = Script::default();
    for name in ["lb-1", "lb-2", "lb-3"] {
        left(&script, name);
        verdict(&script, name, if name == "lb-3" { Verdict::Dead } else { Verdict::Alive });
    }
    script.set(|inner| inner.fail_requests.insert("lb-1".into(), 3));
    let lab = Lab::start(&script, &["lb-1", "lb-2", "lb-3"]);
    sleep(S(10)).await;
    assert_eq!(lab.connected(), 3);
    let withdrawn: Vec<_> =
        script.events().into_iter().filter(|event| event.starts_with("withdraw")).collect();
    assert_eq!(withdrawn, ["withdraw px-lb.t.ns-lb-3"]);
    let requests = script.0.lock().unwrap().requests.clone();
    let of = |name: &str| requests.iter().filter(|request| request.id.ends_with(name)).collect::<Vec<_>>();
    assert_eq!([of("lb-1").len(), of("lb-2").len(), of("lb-3").len()], [4, 1, 1]);
    for request in of("lb-1").into_iter().chain(of("lb-2")) {
        let left = &script.0.lock().unwrap().left[&request.id];
        assert_eq!(request, left, "index 0, our id, the whole path, the mechanism");
    }
    assert_eq!(of("lb-3")[0].state(), State::ReselectRequested);
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_requested_before_the_manager_has_answered() {
    let script = Script::default();
    left(&script, "lb-1");
    verdict(&script, "lb-1", Verdict::Alive);
    script.set(|inner| inner.unreachable = true);
    let lab = Lab::start(&script, &["lb-1", "lb-2"]);
    sleep(S(60)).await;
    assert!(script.events().is_empty(), "{:?}", script.events());
    assert!(lab.mesh.status.borrow().to_string().contains("nsmgr"), "{}", *lab.mesh.status.borrow());
    script.set(|inner| inner.unreachable = false);
    sleep(S(2)).await;
    assert_eq!(lab.connected(), 2);
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_recovered_link_that_dies_before_it_is_continued_is_re_made() {
    let script = Script::default();
    left(&script, "lb-1");
    verdict(&script, "lb-1", Verdict::Alive);
    script.set(|inner| inner.fail_requests.insert("lb-1".into(), 1000));
    let lab = Lab::start(&script, &["lb-1"]);
    sleep(S(5)).await;
    assert!(script.times("withdraw px-lb.t.ns-lb-1").is_empty());
    verdict(&script, "lb-1", Verdict::Dead);
    script.set(|inner| inner.fail_requests.clear());
    sleep(S(12)).await;
    assert_eq!(script.times("withdraw px-lb.t.ns-lb-1").len(), 1);
    assert_eq!(script.0.lock().unwrap().requests.last().unwrap().state(), State::ReselectRequested);
    assert_eq!(lab.connected(), 1);
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn b11_recovered_links_are_replaced_one_at_a_time() {
    let script = Script::default();
    left(&script, "lb-1");
    left(&script, "lb-2");
    let lab = Lab::start(&script, &["lb-1", "lb-2"]);
    sleep(S(1)).await;
    assert_eq!(lab.connected(), 2);
    let events = lab.script.events();
    let (first, second) = if events[1].ends_with('1') { ("lb-1", "lb-2") } else { ("lb-2", "lb-1") };
    let of = |name: &str| {
        [format!("withdraw px-lb.t.ns-{name}"), format!("request {name}"), format!("answered {name}")]
    };
    assert_eq!(events, [of(first), of(second)].concat());
    for request in &lab.script.0.lock().unwrap().requests {
        assert_eq!((request.state(), request.segments().len()), (State::ReselectRequested, 2));
        assert!(request.id.ends_with(&request.network_service_endpoint_name));
    }
    lab.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_recovered_link_delays_only_the_next_one() {
    let script = Script::default();
    left(&script, "lb-1");
    left(&script, "lb-2");
    script.set(|inner| inner.hang_requests.insert("lb-1".into()));
    let lab = Lab::start(&script, &["lb-1", "lb-2", "lb-3"]);
    sleep(S(1)).await;
    assert_eq!(lab.mesh.status.borrow().links["lb-3"], LinkState::Connected);
    sleep(S(5)).await;
    assert_eq!(lab.mesh.status.borrow().links["lb-2"], LinkState::Connected);
    drop(lab.mesh);
    lab.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn g20_all_are_closed_at_once_and_by_the_deadline() {
    let script = Script::default();
    let names: Vec<String> = (0..8).map(|n| format!("lb-{n}")).collect();
    script.set(|inner| inner.hang_closes.extend(names.iter().take(4).cloned()));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lab = Lab::start(&script, &names);
    sleep(S(1)).await;
    assert_eq!(lab.connected(), 8);
    let started = Instant::now();
    lab.mesh.close(started + S(10)).await;
    assert_eq!(started.elapsed(), STRAGGLERS);
    for name in names.iter().skip(4) {
        let closed = lab.script.times(&format!("closed {name}"));
        assert_eq!(closed, [started + Duration::from_millis(100)], "{name}");
    }
    lab.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn if_every_close_hangs_they_have_until_the_deadline() {
    let script = Script::default();
    script.set(|inner| inner.hang_closes.extend(["lb-1".to_owned(), "lb-2".to_owned()]));
    let lab = Lab::start(&script, &["lb-1", "lb-2"]);
    sleep(S(1)).await;
    let started = Instant::now();
    lab.mesh.close(started + S(10)).await;
    assert_eq!(started.elapsed(), S(10));
    lab.tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn connections_stay_when_discovery_ends() {
    let lab = Lab::start(&Script::default(), &["lb-1"]);
    sleep(S(1)).await;
    drop(lab.wanted);
    sleep(S(60)).await;
    assert_eq!(lab.mesh.status.borrow().connected(), 1);
    assert_eq!(lab.script.events().len(), 2);
    lab.mesh.close(Instant::now() + S(5)).await;
    assert_eq!(lab.script.events().last().unwrap(), "closed lb-1");
    lab.tasks.stop().await;
}
