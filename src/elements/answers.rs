// SPDX-License-Identifier: Apache-2.0

//! Keeps the last answer of each connection, for observers.
//!
//! 1. A connection is known from its first answer until its Close is done.
//! 2. A Request of a timer counts as a refresh, one that heals as a heal.
//! 3. A Request that fails changes nothing but the failure, which stays until the next answer.
//! 4. A reselect, which closes and requests again, leaves the counts.
//!
//! # Order
//! Below `metadata`, above the rows that request again.
//!
//! # State
//! A mark that it is known.
//!
//! # Close
//! It is forgotten after the Close.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{
    api::Connection,
    chain::{Close, Element, Error, EventKind, Next, Order, Origin, Request, Result, causes},
};

/// The last answer of each connection, by its id at the client. Clones share them.
///
/// ```
/// use nsm::{
///     api::Connection,
///     chain::{Chain, Close, Request, begin::BeginLayer, metadata::MetadataLayer},
///     elements::{answers::Answers, update_path::UpdatePath},
///     task::Tasks,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tasks = Tasks::default();
/// let answers = Answers::default();
/// let chain = Chain::new()
///     .with(UpdatePath::new("client-1"))
///     .with(BeginLayer::client(tasks.clone()))
///     .with(MetadataLayer)
///     .with(answers.clone())
///     .build()?;
///
/// let connection = chain.request(Request::new(Connection::named("a"))).await?;
/// let answer = answers.get(connection.client_id()).ok_or("no answer is known")?;
/// assert_eq!((answer.path[0].name.as_str(), answer.refreshes), ("client-1", 0));
/// chain.close(Close::new(connection)).await?;
/// assert!(answers.is_empty());
/// # tasks.stop().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<BTreeMap<String, Answer>>>);

/// The last answer of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the connection was first answered.
    pub since: SystemTime,
    /// When it was last answered.
    pub at: SystemTime,
    /// Answers to refreshes (rule 2).
    pub refreshes: u64,
    /// Answers to Requests that heal (rule 2).
    pub heals: u64,
    /// The hops of the path, from the client to the endpoint.
    pub path: Vec<Hop>,
    /// Why the last Request failed, if it did.
    pub failure: Option<String>,
}

/// A hop of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its name.
    pub name: String,
    /// Its id of the connection.
    pub id: String,
    /// When its token expires, if it has an expiry.
    pub expires: Option<SystemTime>,
}

/// The hops of the path of a connection.
pub fn hops(connection: &Connection) -> Vec<Hop> {
    let segments = connection.segments().iter();
    let hop = segments.map(|segment| Hop {
        name: segment.name.clone(),
        id: segment.id.clone(),
        expires: segment.expires_at(),
    });
    hop.collect()
}

impl Answers {
    /// The last answer of a connection.
    pub fn get(&self, id: &str) -> Option<Answer> {
        self.lock().get(id).cloned()
    }

    /// Number of known connections.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no connection is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn note(&self, id: &str, connection: &Connection, origin: Origin) {
        let at = SystemTime::now();
        let path = hops(connection);
        let mut known = self.lock();
        let answer = known.entry(id.to_owned()).or_insert_with(|| Answer {
            since: at,
            at,
            refreshes: 0,
            heals: 0,
            path: Vec::new(),
            failure: None,
        });
        answer.at = at;
        answer.path = path;
        answer.failure = None;
        answer.refreshes += u64::from(origin == Origin::Event(EventKind::Refresh));
        answer.heals += u64::from(origin == Origin::Event(EventKind::Heal));
    }

    fn fail(&self, id: &str, error: &Error) {
        if let Some(answer) = self.lock().get_mut(id) {
            answer.failure = Some(causes(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the connection on drop.
struct Recorded {
    answers: Answers,
    id: String,
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.answers.lock().remove(&self.id);
    }
}

impl Element for Answers {
    const NAME: &'static str = "answers";
    const ORDER: Order = Order::STATE.before(&["refresh", "heal"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let scope = request.context.scope.clone();
        let origin = request.context.origin;
        let id = request.connection.client_id().to_owned();
        let answered = next.request(request).await;
        let connection = answered.inspect_err(|error| self.fail(&id, error))?;
        if scope.get::<Recorded>().is_none() {
            scope.insert(Recorded { answers: self.clone(), id: id.clone() });
        }
        self.note(&id, &connection, origin);
        Ok(connection)
    }

    async fn close(&self, close: Close, next: Next) -> Result<Box<Connection>> {
        let reselects = close.context.origin == Origin::Event(EventKind::Reselect);
        let _recorded = (!reselects).then(|| close.context.scope.take::<Recorded>());
        next.close(close).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{Call, Chain, Reason, begin::BeginLayer, laws, metadata::MetadataLayer},
        elements::refresh::Refresh,
        task::Tasks,
        testing,
    };

    fn chain(answers: &Answers, tasks: &Tasks) -> Next {
        let end = tower::service_fn(|call: Call| async move {
            match call.connection().payload == "bad" && matches!(call, Call::Request(_)) {
                true => Err(Error::from(Reason::Refused("as the test wants".into()))),
                false => Ok(call.into_connection()),
            }
        });
        let rows = Chain::new().with(BeginLayer::endpoint(tasks.clone())).with(MetadataLayer);
        rows.with(answers.clone()).with(Refresh).end(end).build().unwrap()
    }

    fn request(payload: &str) -> Request {
        let mut connection = Connection::named("a");
        testing::path(&mut connection, 0, &[Some(600), None]);
        connection.payload = payload.into();
        Request::new(connection)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_known_until_the_close() {
        let tasks = Tasks::default();
        let answers = Answers::default();
        let chain = chain(&answers, &tasks);
        chain.request(request("bad")).await.unwrap_err();
        assert!(answers.is_empty());
        let first = chain.request(request("")).await.unwrap();
        let known = answers.get(first.client_id()).unwrap();
        assert_eq!((known.refreshes, known.heals, known.path.len()), (0, 0, 2));
        assert_eq!((known.path[0].expires.is_some(), known.path[1].expires), (true, None));
        chain.request(request("bad")).await.unwrap_err();
        let failed = answers.get(first.client_id()).unwrap();
        assert!(failed.failure.as_ref().is_some_and(|why| why.contains("as the test wants")), "{failed:?}");
        assert_eq!(Answer { failure: None, ..failed }, known, "rule 3");
        chain.request(request("")).await.unwrap();
        assert_eq!(answers.get(first.client_id()).unwrap().failure, None, "rule 3");
        chain.close(Close::new(request("").connection)).await.unwrap();
        assert!(answers.is_empty());
        tasks.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_is_counted() {
        let tasks = Tasks::default();
        let answers = Answers::default();
        let chain = chain(&answers, &tasks);
        let mut request = request("");
        testing::path(&mut request.connection, 0, &[Some(3), None]);
        let id = chain.request(request).await.unwrap().client_id().to_owned();
        testing::eventually(|| answers.get(&id).unwrap().refreshes, |count| *count > 0).await;
        let known = answers.get(&id).unwrap();
        assert!(known.heals == 0 && known.at >= known.since, "{known:?}");
        tasks.stop().await;
    }

    #[test]
    fn answers_are_counted_by_their_origin() {
        let answers = Answers::default();
        let request = request("");
        for origin in [
            Origin::Caller,
            Origin::Event(EventKind::Heal),
            Origin::Event(EventKind::Refresh),
            Origin::Caller,
        ] {
            answers.note("a", &request.connection, origin);
        }
        let known = answers.get("a").unwrap();
        assert_eq!((known.refreshes, known.heals), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        let answers = Answers::default();
        laws::check_with(|| answers.clone(), || answers.len()).await.unwrap();
    }
}
