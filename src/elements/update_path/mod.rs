// SPDX-License-Identifier: Apache-2.0

//! Keeps this hop's segment in the path of every call (NSM `updatepath`).
//!
//! On the way down the connection moves to this hop's segment, which is found, renamed or added by
//! the rules of [`rules`]. On the way back the caller's id and index are
//! restored. A path that the rules refuse is [`Reason::Invalid`].
//!
//! # Order
//! Above `begin`, which serializes calls by the id set here.

pub mod rules;

use uuid::Uuid;

use crate::{
    api::Connection,
    chain::{Close, Element, Next, Order, Reason, Request, Result},
};

/// Element that enters and leaves the path.
///
/// ```
/// use nsm::{api::Connection, chain::{Chain, Request}, elements::update_path::UpdatePath};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let chain = Chain::new().with(UpdatePath::new("endpoint-1")).build()?;
/// let answer = chain.request(Request::new(Connection::named("a"))).await?;
/// let path = answer.path.ok_or("no path")?;
/// assert_eq!(path.path_segments[0].name, "endpoint-1");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct UpdatePath {
    name: String,
}

impl UpdatePath {
    /// `name` is the name of this hop's segment. It must differ from that of the previous hop, or
    /// that hop's segment is taken for ours.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    fn enter(&self, connection: &mut Connection) -> Result<usize> {
        let entered = rules::enter(connection, &self.name, || Uuid::new_v4().to_string());
        Ok(entered.map_err(|error| Reason::Invalid(error.to_string()))?)
    }
}

impl Element for UpdatePath {
    const NAME: &'static str = "update_path";
    const ORDER: Order = Order::ANY.before(&["begin"]);

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        let back = self.enter(&mut request.connection)?;
        let mut connection = next.request(request).await?;
        rules::leave(&mut connection, back);
        Ok(connection)
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        let back = self.enter(&mut close.connection)?;
        let mut connection = next.close(close).await?;
        rules::leave(&mut connection, back);
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use tower_layer::Layer;

    use super::*;
    use crate::{
        chain::{Chain, laws},
        testing::{self, Given},
    };

    async fn through(hops: &[&str], connection: Box<Connection>) -> Result<Box<Connection>> {
        let end = Chain::new().build()?;
        let chain = hops.iter().rev().fold(end, |next, hop| UpdatePath::new(*hop).layer().layer(next));
        chain.request(Request::new(connection)).await
    }

    #[tokio::test]
    async fn each_hop_has_a_segment_and_the_callers_id_is_restored() {
        let answer = through(&["client", "nsmgr", "endpoint"], Connection::named("a")).await.unwrap();
        let names: Vec<_> = answer.segments().iter().map(|segment| &*segment.name).collect();
        assert_eq!((names, &*answer.id, answer.index()), (vec!["client", "nsmgr", "endpoint"], "a", 0));
        let nsmgr = &answer.segments()[1].id;
        let endpoint = &answer.segments()[2].id;
        assert_ne!(nsmgr, endpoint);
        assert!(nsmgr.parse::<Uuid>().is_ok_and(|id| id.get_version_num() == 4), "{nsmgr}");
        let again = through(&["client", "nsmgr", "endpoint"], answer.clone()).await.unwrap();
        assert_eq!(again, answer);
    }

    #[tokio::test]
    async fn a_path_index_out_of_range_is_refused_with_both_numbers() {
        let mut connection = *Connection::named("a");
        testing::path(&mut connection, 0, &[None]);
        connection.path_mut().index = 10_000;
        let error = through(&["endpoint"], Box::new(connection)).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.to_string().contains("10000 is not within 1"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(|| {
            Given(UpdatePath::new("me"), |c: &mut Connection, _: &mut _| testing::path(c, 0, &[None]))
        })
        .await
        .unwrap();
    }
}
