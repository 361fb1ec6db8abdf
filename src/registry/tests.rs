// SPDX-License-Identifier: Apache-2.0

//! Tests a registration over time, with a registry in memory.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::{
    twin::{Fault, Twin},
    *,
};
use crate::api::pb::registry::{NetworkService, NetworkServiceEndpoint};

const S: fn(u64) -> Duration = Duration::from_secs;

fn offer() -> Offer {
    let service = NetworkService { name: "svc".into(), payload: "ETHERNET".into(), ..Default::default() };
    let endpoint = NetworkServiceEndpoint {
        name: "px".into(),
        network_service_names: vec!["svc".into()],
        url: "tcp://127.0.0.1:1".into(),
        ..Default::default()
    };
    Offer { services: vec![service], endpoint, socket: None }
}

fn start(twin: &Twin) -> Registration<Twin> {
    Registration::start(twin.clone(), offer(), Settings::default())
}

async fn until(registration: &Registration<Twin>, what: &str, is: impl Fn(&State) -> bool) -> State {
    let mut state = registration.state();
    timeout(S(600), state.wait_for(|state| is(state))).await.expect(what).expect(what).clone()
}

async fn registered(twin: &Twin) -> Registration<Twin> {
    let registration = start(twin);
    until(&registration, "registered", State::is_registered).await;
    registration
}

fn unavailable() -> Error {
    Status::unavailable("down").into()
}

#[tokio::test(start_paused = true)]
async fn registers_service_and_endpoint_and_refreshes_in_time() {
    let twin = Twin::default();
    let start = Instant::now();
    let registration = registered(&twin).await;
    sleep(S(85)).await;
    let calls = [
        (0, "service svc"),
        (0, "register px path 0"), // the empty path first
        (0, "find watch=true"),
        (40, "register px path 2"), // then the returned one; the watch goes on
        (80, "register px path 2"),
    ];
    assert_eq!(twin.calls(start), calls.map(|(at, call)| (at, call.to_owned())));
    assert!(registration.state().borrow().is_registered());
}

#[tokio::test(start_paused = true)]
async fn short_registrations_are_refreshed_before_nsmgr_drops_them() {
    let twin = Twin::default();
    let begin = Instant::now();
    twin.life(Duration::from_millis(24_600)); // dropped 5 s early, after 19.6 s; two thirds would be 16.4 s
    let _registration = registered(&twin).await;
    sleep(S(30)).await;
    let refreshes: Vec<_> =
        twin.calls(begin).into_iter().filter(|(_, call)| call.starts_with("register")).collect();
    assert_eq!(refreshes.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 14, 29], "{refreshes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_registry_whose_clock_differs_is_called_every_forty_seconds() {
    for behind in [true, false] {
        let twin = Twin::default();
        let begin = Instant::now();
        twin.clock(S(90), behind);
        let registration = registered(&twin).await;
        for _ in 0..19 {
            sleep(S(10)).await;
            assert!(registration.state().borrow().is_registered(), "behind: {behind}");
        }
        let calls = twin.calls(begin);
        let registers = calls.iter().filter(|(_, call)| call.starts_with("register")).map(|(at, _)| *at);
        assert_eq!(registers.collect::<Vec<_>>(), [0, 40, 80, 120, 160], "behind: {behind}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_offer_is_registered_also_after_refreshes() {
    let twin = Twin::default();
    let _registration = registered(&twin).await;
    let found = |twin: &Twin| {
        let twin = twin.clone();
        async move {
            use futures::StreamExt;
            let mut found = twin.find(NetworkServiceEndpoint::default(), false).await.unwrap();
            found.next().await.unwrap().unwrap().network_service_endpoint.unwrap()
        }
    };
    let first = found(&twin).await;
    sleep(S(41)).await;
    let second = found(&twin).await;
    let expected = NetworkServiceEndpoint {
        expiration_time: second.expiration_time,
        initial_registration_time: first.initial_registration_time,
        ..offer().endpoint
    };
    assert_eq!(second, expected, "a refresh keeps the time of the first registration");
}

#[tokio::test(start_paused = true)]
async fn a_lost_registration_is_repeated_within_five_seconds() {
    type Event = fn(&Twin);
    let events: [(&str, Event); 4] = [
        ("the watch ends", |twin| twin.end_watches()),
        ("the registry restarts", |twin| twin.restart()),
        ("the entry is deleted", |twin| twin.lapse("px")),
        ("the registry is away for a while", |twin| {
            twin.restart();
            for fault in [Fault::Register, Fault::RegisterService, Fault::Find] {
                twin.fail(fault, unavailable);
            }
        }),
    ];
    for (what, event) in events {
        let twin = Twin::default();
        let _registration = registered(&twin).await;
        sleep(S(3)).await;
        event(&twin);
        sleep(S(7)).await;
        twin.mend();
        let before = twin.count("service");
        let back = Instant::now();
        while !(twin.has("px") && twin.watches() == 1) {
            assert!(back.elapsed() < S(5), "{what}");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(twin.count("service") + before >= 2, "{what}: the service too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_restarts_before_the_watch_has_us_back_soon() {
    let twin = Twin::default();
    twin.forget_next(1);
    let _registration = registered(&twin).await;
    let begin = Instant::now();
    assert!(!twin.has("px"));
    while !twin.has("px") {
        assert!(begin.elapsed() < S(5));
        sleep(Duration::from_millis(10)).await;
    }
    sleep(S(30)).await;
    assert_eq!((twin.count("register"), twin.watches()), (2, 1), "once more, and no further");
}

#[tokio::test(start_paused = true)]
async fn a_registry_without_find_is_never_called_in_a_tight_loop() {
    let twin = Twin::default();
    twin.fail(Fault::Find, unavailable);
    let registration = registered(&twin).await;
    sleep(S(60)).await;
    let count = twin.count("register");
    assert!((20..50).contains(&count), "{count} in 60 s");
    assert!(registration.state().borrow().is_registered(), "it is registered all the same");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_list_the_entry_is_called_again() {
    let twin = Twin::default();
    twin.forget_next(usize::MAX);
    let registration = registered(&twin).await;
    sleep(S(60)).await;
    let count = twin.count("register");
    assert!((12..30).contains(&count), "{count} in 60 s");
    assert!(twin.watches() <= 1, "one watch at a time");
    assert!(registration.state().borrow().is_registered());
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_do_not_make_a_tight_loop_either() {
    let twin = Twin::default();
    let _registration = registered(&twin).await;
    for _ in 0..6000 {
        twin.end_watches();
        sleep(Duration::from_millis(10)).await;
    }
    let count = twin.count("register");
    assert!((20..50).contains(&count), "{count} in 60 s");
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_growing_pauses_and_shown() {
    let twin = Twin::default();
    twin.fail(Fault::Register, unavailable);
    let registration = start(&twin);
    let state = until(&registration, "failing", |state| state.failure().is_some()).await;
    assert!(matches!(state, State::Failing(_)) && !state.is_registered());
    assert!(state.failure().unwrap().to_string().contains("Unavailable: down"));
    sleep(S(60)).await;
    let count = twin.count("register");
    assert!((20..50).contains(&count), "{count} in 60 s");
    twin.mend();
    let state = until(&registration, "registered", State::is_registered).await;
    assert!(state.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_is_shown_before_the_next_attempt() {
    let twin = Twin::default();
    let registration = registered(&twin).await;
    sleep(S(3)).await;
    twin.fail(Fault::Register, unavailable);
    let attempts = twin.count("register");
    twin.end_watches();
    let state = until(&registration, "lost", |state| state.failure().is_some()).await;
    assert_eq!(twin.count("register"), attempts, "no attempt yet");
    assert!(state.is_registered(), "{state:?}");
    assert_eq!(state.failure().unwrap().to_string(), "the registration is lost: the watch ended");
    twin.mend();
    let state = until(&registration, "repeated", |state| state.failure().is_none()).await;
    assert!(state.is_registered(), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_the_registration_until_it_lapses() {
    let twin = Twin::default();
    let registration = registered(&twin).await;
    twin.fail(Fault::Register, unavailable);
    sleep(S(45)).await;
    let state = registration.state().borrow().clone();
    assert!(state.is_registered() && state.failure().is_some(), "{state:?}");
    sleep(S(20)).await;
    let state = registration.state().borrow().clone();
    assert!(matches!(state, State::Failing(_)), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_path_that_was_refused_is_not_sent_again() {
    let twin = Twin::default();
    let start = Instant::now();
    let _registration = registered(&twin).await;
    sleep(S(39)).await;
    twin.fail(Fault::Register, || Status::permission_denied("no sufficient privileges").into());
    sleep(S(2)).await;
    twin.mend();
    sleep(S(5)).await;
    let paths: Vec<_> =
        twin.calls(start).into_iter().filter(|(_, call)| call.starts_with("register")).collect();
    assert_eq!(paths[1].1, "register px path 2");
    assert!(paths.len() > 2 && paths[2..].iter().all(|(_, call)| call == "register px path 0"), "{paths:?}");
}

#[tokio::test(start_paused = true)]
async fn a_different_service_of_another_owner_ends_the_attempts() {
    let twin = Twin::default();
    twin.put_service(Some(NetworkService { payload: "IP".into(), ..offer().services.remove(0) }));
    twin.fail(Fault::RegisterService, || Status::permission_denied("no").into());
    let registration = start(&twin);
    let state = until(&registration, "refused", |state| matches!(state, State::Refused(_))).await;
    assert!(state.failure().unwrap().to_string().contains("payload `IP`"), "{state:?}");
    sleep(S(60)).await;
    assert_eq!((twin.count("service"), twin.count("register")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn unregister_sends_the_path_and_ends_the_refreshes() {
    let twin = Twin::default();
    let start = Instant::now();
    let registration = registered(&twin).await;
    sleep(S(1)).await;
    registration.unregister().await.unwrap();
    assert!(!twin.has("px"));
    assert_eq!(twin.calls(start).last().unwrap(), &(1, "unregister px path 2".to_owned()));
    let calls = twin.calls(start).len();
    sleep(S(300)).await;
    assert_eq!(twin.calls(start).len(), calls, "nothing goes on");
    assert_eq!(twin.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn unregister_tries_again_and_gives_up_in_time_saying_why() {
    let twin = Twin::default();
    let begin = Instant::now();
    let registration = registered(&twin).await;
    twin.fail(Fault::Unregister, unavailable);
    let error = registration.unregister().await.unwrap_err();
    assert!(error.to_string().contains("Unavailable: down"), "{error}");
    assert_eq!(begin.elapsed(), S(3));
    assert!(twin.count("unregister") > 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_registration_ends_its_task_and_its_watch() {
    let twin = Twin::default();
    let registration = registered(&twin).await;
    sleep(S(1)).await;
    let mut state = registration.state();
    drop(registration);
    while state.changed().await.is_ok() {}
    assert_eq!(twin.watches(), 0);
    assert!(twin.has("px"), "the entry lapses by itself");
}
