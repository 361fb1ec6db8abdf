// SPDX-License-Identifier: Apache-2.0

//! A service that delays and fails by a script and records its calls, and access to a connection's
//! events.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use nsm::{
    api::Connection,
    chain::{Call, Close, Element, End, Error, Events, Next, Origin, Reason, Request, Result},
};
use tokio::time::sleep;

#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    script: VecDeque<(u64, bool)>, // milliseconds, whether it fails; empty: at once and good
    seen: Vec<(String, Box<Connection>, Origin)>,
    busy: HashSet<String>,
    good: HashSet<String>,
    last: HashMap<String, String>,
    wrong: Vec<String>,
}

struct Busy(World, String);
impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().busy.remove(&self.1);
    }
}

impl World {
    pub(crate) fn script(&self, script: impl IntoIterator<Item = (u64, bool)>) {
        self.0.lock().unwrap().script = script.into_iter().collect();
    }

    pub(crate) fn service(&self) -> impl End {
        let world = self.clone();
        tower::service_fn(move |call| {
            let world = world.clone();
            async move { world.answer(call).await }
        })
    }

    /// The calls in the order of arrival, such as `request a` and `close b`; clears them.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.take().into_iter().map(|(what, ..)| what).collect()
    }

    pub(crate) fn take(&self) -> Vec<(String, Box<Connection>, Origin)> {
        std::mem::take(&mut self.0.lock().unwrap().seen)
    }

    /// Violations that the service has detected.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.0.lock().unwrap().wrong.clone()
    }

    /// Number of connections that are established at the service.
    pub(crate) fn good(&self) -> usize {
        self.0.lock().unwrap().good.len()
    }

    async fn answer(&self, call: Call) -> Result<Box<Connection>, Error> {
        let (_busy, (delay, fails)) = self.arrive(&call);
        sleep(Duration::from_millis(delay)).await;
        if fails {
            return Err(Reason::Refused("as scripted".into()).into());
        }
        let mut state = self.0.lock().unwrap();
        match call {
            Call::Request(Request { mut connection, .. }) => {
                connection.payload = format!("serial {}", state.seen.len());
                state.last.insert(connection.id.clone(), connection.payload.clone());
                state.good.insert(connection.id.clone());
                Ok(connection)
            }
            Call::Close(Close { connection, .. }) => {
                state.good.remove(&connection.id);
                Ok(connection)
            }
        }
    }

    fn arrive(&self, call: &Call) -> (Busy, (u64, bool)) {
        let mut state = self.0.lock().unwrap();
        let connection = call.connection();
        let id = connection.id.clone();
        if !state.busy.insert(id.clone()) {
            state.wrong.push(format!("two calls at once for {id}"));
        }
        let what = match call {
            Call::Request(_) => "request",
            Call::Close(_) if state.last.get(&id) != Some(&connection.payload) => {
                let said = format!("close of {connection:?}, good is {:?}", state.last.get(&id));
                state.wrong.push(said);
                "close"
            }
            Call::Close(_) => "close",
        };
        let entry = (format!("{what} {id}"), Box::new(connection.clone()), call.context().origin);
        state.seen.push(entry);
        (Busy(self.clone(), id), state.script.pop_front().unwrap_or((0, false)))
    }
}

/// Gives access to a connection's events.
#[derive(Clone, Default)]
pub(crate) struct Lever(Arc<Mutex<HashMap<String, Events>>>);

impl Lever {
    pub(crate) fn of(&self, id: &str) -> Events {
        self.0.lock().unwrap().get(id).cloned().unwrap_or_default()
    }
}

impl Element for Lever {
    const NAME: &'static str = "lever";
    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let id = request.connection.id.clone();
        let events = request.context.events.clone();
        self.0.lock().unwrap().insert(id, events);
        next.request(request).await
    }
}

pub(crate) fn request(id: &str, timeout: u64) -> Request {
    let mut request = Request::new(Connection::named(id));
    request.context = nsm::chain::CallContext::within(Duration::from_millis(timeout));
    request
}

pub(crate) fn close(id: &str) -> Close {
    Close::new(Connection::named(id))
}

pub(crate) async fn ms(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}
