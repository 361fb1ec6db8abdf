// SPDX-License-Identifier: Apache-2.0
//! Tests the subscriber against an NSP under the test's control: in memory with paused time, and
//! over a socket.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::Stream;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, async_trait};

use super::*;
use crate::api::pb::nsp::v1::{
    Conduit, ConduitResponse, VipResponse,
    configuration_manager_server::{ConfigurationManager, ConfigurationManagerServer},
};
use crate::testing::Lines;

type Answers = mpsc::Sender<Result<VipResponse, Status>>;

/// An NSP whose subscriptions the test answers.
#[derive(Clone)]
struct Nsp {
    opened: mpsc::Sender<(Vip, Answers)>,
    refusals: Arc<Mutex<VecDeque<Status>>>,
}

#[async_trait]
impl ConfigurationManager for Nsp {
    type WatchConduitStream = Pin<Box<dyn Stream<Item = Result<ConduitResponse, Status>> + Send>>;
    type WatchVipStream = ReceiverStream<Result<VipResponse, Status>>;

    async fn watch_conduit(&self, _: Request<Conduit>) -> Result<Response<Self::WatchConduitStream>, Status> {
        Err(Status::unimplemented("not watched by a proxy"))
    }

    async fn watch_vip(&self, request: Request<Vip>) -> Result<Response<Self::WatchVipStream>, Status> {
        if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let (answers, stream) = mpsc::channel(8);
        self.opened.send((request.into_inner(), answers)).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

struct World {
    nsp: Nsp,
    opened: mpsc::Receiver<(Vip, Answers)>,
    vips: watch::Receiver<Vips>,
    tasks: Tasks,
}

impl World {
    /// The server itself is the transport of the client.
    fn new() -> Self {
        Self::after(None)
    }

    /// Starts after an earlier process with this list.
    fn after(restored: Option<Arc<[IpNet]>>) -> Self {
        let (opened, subscriptions) = mpsc::channel(8);
        let nsp = Nsp { opened, refusals: Arc::default() };
        let tasks = Tasks::default();
        let client = ConfigurationManagerClient::new(ConfigurationManagerServer::new(nsp.clone()));
        let vips = follow(client, "trench-a", restored, &tasks);
        Self { nsp, opened: subscriptions, vips, tasks }
    }

    async fn subscription(&mut self) -> Answers {
        let (filter, answers) =
            timeout(3600 * SECOND, self.opened.recv()).await.expect("subscribes").unwrap();
        assert_eq!((filter.name.as_str(), filter.trench.unwrap().name.as_str()), ("", "trench-a"));
        answers
    }

    /// The next list that is published.
    async fn changed(&mut self) -> Vec<String> {
        timeout(60 * SECOND, self.vips.changed()).await.expect("published").unwrap();
        texts(&self.vips.borrow_and_update())
    }

    /// The list that is published some time later.
    async fn later(&mut self) -> Option<Vec<String>> {
        sleep(SECOND).await;
        self.vips.borrow().list.is_some().then(|| texts(&self.vips.borrow()))
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn texts(vips: &Vips) -> Vec<String> {
    vips.list.iter().flat_map(|vips| vips.iter()).map(IpNet::to_string).collect()
}

fn list(addresses: &[&str]) -> Result<VipResponse, Status> {
    Ok(VipResponse {
        vips: addresses
            .iter()
            .enumerate()
            .map(|(n, address)| Vip {
                name: format!("vip-{n}"),
                address: (*address).into(),
                ..Vip::default()
            })
            .collect(),
    })
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_a_list_and_none_comes_before_an_answer() {
    let mut world = World::new();
    let answers = world.subscription().await;
    assert_eq!(world.later().await, None);
    answers.send(list(&[])).await.unwrap();
    assert_eq!(world.later().await, Some(vec![]));
}

#[tokio::test(start_paused = true)]
async fn every_changed_list_is_published_and_the_same_one_is_not() {
    let mut world = World::new();
    let answers = world.subscription().await;
    answers.send(list(&["20.0.0.1/32", "2000::1/128"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32", "2000::1/128"]);
    answers.send(list(&["2000::1/128", "20.0.0.1/32"])).await.unwrap();
    sleep(SECOND).await;
    assert!(!world.vips.has_changed().unwrap(), "the order does not matter");
    answers.send(list(&["20.0.0.2/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.2/32"]);
    answers.send(list(&[])).await.unwrap();
    assert!(world.changed().await.is_empty(), "an empty list is passed on");
}

#[tokio::test(start_paused = true)]
async fn the_last_list_stays_while_the_watch_is_broken() {
    let mut world = World::new();
    let answers = world.subscription().await;
    answers.send(list(&["20.0.0.1/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32"]);
    answers.send(Err(Status::unavailable("restarting"))).await.unwrap();
    let start = Instant::now();
    let answers = world.subscription().await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    drop(answers);
    let answers = world.subscription().await;
    assert_eq!(world.later().await.unwrap(), ["20.0.0.1/32"]);
    answers.send(list(&["20.0.0.2/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.2/32"]);
}

#[tokio::test(start_paused = true)]
async fn subscribing_is_retried_with_growing_pauses() {
    let mut world = World::new();
    world.nsp.refusals.lock().unwrap().extend((0..6).map(|n| Status::unavailable(n.to_string())));
    let start = Instant::now();
    let answers = world.subscription().await;
    // 0.5, 1, 2, 4, 5 and 5 s, each ± 20 %.
    let took = start.elapsed().as_secs_f64();
    assert!((14.0..21.0).contains(&took), "{took}");
    answers.send(list(&["20.0.0.1/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32"]);
    drop(answers);
    let start = Instant::now();
    let _answers = world.subscription().await;
    assert!(start.elapsed() < SECOND, "soon again after a good answer: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_mute_subscription_is_replaced() {
    let mut world = World::new();
    let start = Instant::now();
    let _mute = world.subscription().await;
    let answers = world.subscription().await;
    assert!(start.elapsed() < 12 * SECOND, "without a first answer: {:?}", start.elapsed());
    answers.send(list(&["20.0.0.1/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32"]);
    let start = Instant::now();
    let _next = world.subscription().await;
    assert_eq!(start.elapsed().as_secs(), 300, "without a later one");
    assert_eq!(world.later().await.unwrap(), ["20.0.0.1/32"]);
}

#[tokio::test(start_paused = true)]
async fn invalid_and_duplicate_entries_are_reported_once() {
    crate::app::log::testing::ask_all_subscribers();
    let log = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut world = World::new();
    let answers = world.subscription().await;
    let bad = ["20.0.0.1/32", "banana", "20.0.0.1/32"];
    answers.send(list(&bad)).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32"]);
    answers.send(list(&[&bad[..], &["20.0.0.3/32"]].concat())).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32", "20.0.0.3/32"]);
    assert_eq!(log.count(&["ERROR", "name=\"vip-1\" value=\"banana\""]), 1, "{log:?}");
    assert_eq!(log.count(&["ERROR", "name=\"vip-2\" value=\"20.0.0.1/32\""]), 1, "{log:?}");
    assert_eq!(log.count(&["ERROR"]), 2, "{log:?}");
    answers.send(list(&["20.0.0.1/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32"]);
    answers.send(list(&[&bad[..], &["20.0.0.4/32"]].concat())).await.unwrap();
    world.changed().await;
    assert_eq!(log.count(&["ERROR", "banana"]), 2, "again, after it had gone: {log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_too_long_is_refused_and_the_last_one_stays() {
    crate::app::log::testing::ask_all_subscribers();
    let log = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut world = World::new();
    let answers = world.subscription().await;
    let long = || list(&["20.0.0.9/32"; MAX_VIPS + 1]);
    let state = |world: &World| (texts(&world.vips.borrow()), world.vips.borrow().refused);
    for _ in 0..2 {
        answers.send(long()).await.unwrap();
        assert_eq!(world.later().await, None, "none was accepted");
        assert_eq!(state(&world).1, Some(MAX_VIPS + 1));
    }
    assert_eq!(
        log.count(&["ERROR", "too many VIPs: the last list stays count=20001 accepted=20000"]),
        1,
        "{log:?}"
    );
    for good in [list(&["20.0.0.1/32"]), list(&["20.0.0.1/32"])] {
        answers.send(good).await.unwrap();
        sleep(SECOND).await;
        assert_eq!(state(&world), (vec!["20.0.0.1/32".into()], None));
        answers.send(long()).await.unwrap();
        sleep(SECOND).await;
        assert_eq!(state(&world), (vec!["20.0.0.1/32".into()], Some(MAX_VIPS + 1)));
    }
    assert_eq!(log.count(&["ERROR", "too many VIPs"]), 3, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_receiver_of_the_vips() {
    let World { vips, tasks, mut opened, .. } = World::new();
    let _answers = opened.recv().await.unwrap();
    assert_eq!(tasks.len(), 1);
    drop(vips);
    sleep(SECOND).await;
    assert!(tasks.is_empty());
}

#[tokio::test]
async fn vips_are_followed_over_a_socket_and_restarts_of_the_nsp() {
    let (opened, mut subscriptions) = mpsc::channel(8);
    let nsp = Nsp { opened, refusals: Arc::default() };
    let serve = |listener| {
        let service = ConfigurationManagerServer::new(nsp.clone()).max_encoding_message_size(MAX_ANSWER);
        let server = tonic::transport::Server::builder().add_service(service);
        let served =
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), std::future::pending());
        AbortOnDropHandle::new(tokio::spawn(async move { served.await.unwrap() }))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = serve(listener);
    let channel =
        tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let tasks = Tasks::default();
    let mut vips = follow(ConfigurationManagerClient::new(channel), "trench-a", None, &tasks);
    let mut published = async |n: usize| {
        let full = vips.wait_for(|vips| vips.list.as_ref().is_some_and(|vips| vips.len() == n));
        timeout(30 * SECOND, full).await.expect("published").unwrap().clone()
    };

    // The maximum number of VIPs, in one message.
    let most: Vec<_> = (0..MAX_VIPS).map(|n| format!("10.0.{}.{}/32", n >> 8, n & 255)).collect();
    let (_, answers) = subscriptions.recv().await.unwrap();
    answers.send(list(&most.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap();
    assert_eq!(published(MAX_VIPS).await.refused, None);

    drop((server, answers));
    let restarted = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let _server = serve(timeout(30 * SECOND, restarted).await.expect("the port is free again"));
    let (_, answers) = timeout(30 * SECOND, subscriptions.recv()).await.expect("subscribes again").unwrap();
    answers.send(list(&["20.0.0.1/32"])).await.unwrap();
    assert_eq!(texts(&published(1).await), ["20.0.0.1/32"]);
    tasks.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_list_stays_until_nsp_answers_and_is_not_declared() {
    let list_before: Arc<[IpNet]> = ["20.0.0.1/32".parse().unwrap()].into();
    let mut world = World::after(Some(list_before));
    let linux = crate::kernel::Memory::default();
    let kernel = Kernel::start(crate::kernel::Settings::of("t", "c", "n"), linux, &world.tasks);
    let (publish, published) = watch::channel(None);
    world.tasks.spawn(declare(world.vips.clone(), kernel.clone(), publish));
    let answers = world.subscription().await;
    assert_eq!(world.later().await.unwrap(), ["20.0.0.1/32"]);
    kernel.settled().await;
    assert!(world.vips.borrow().restored && !kernel.status().borrow().vips);
    answers.send(list(&["20.0.0.1/32"])).await.unwrap();
    assert_eq!(world.changed().await, ["20.0.0.1/32"], "the same list, of another origin");
    sleep(SECOND).await;
    assert!(!world.vips.borrow().restored && kernel.status().borrow().vips);
    assert_eq!(*published.borrow(), world.vips.borrow().list, "to the endpoint chain, too");
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_takes_no_vip_from_the_endpoint_chain() {
    let mut world = World::after(None);
    let linux = crate::kernel::Memory::default();
    let kernel = Kernel::start(crate::kernel::Settings::of("t", "c", "n"), linux, &world.tasks);
    let (publish, published) = watch::channel(None);
    world.tasks.spawn(declare(world.vips.clone(), kernel, publish));
    let answers = world.subscription().await;
    for (answer, expected) in
        [(&["20.0.0.1/32"][..], "20.0.0.1/32"), (&[], "20.0.0.1/32"), (&["20.0.0.2/32"], "20.0.0.2/32")]
    {
        answers.send(list(answer)).await.unwrap();
        sleep(SECOND).await;
        let expected: Arc<[IpNet]> = [expected.parse().unwrap()].into();
        assert_eq!(*published.borrow(), Some(expected), "after {answer:?}");
    }
}
