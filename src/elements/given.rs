// SPDX-License-Identifier: Apache-2.0

//! Give an element under test what it would find in a call: a path, tokens, a mechanism.

use crate::{
    api::{Connection, PathSegment},
    chain::{Close, Context, Element, Next, Request, Result},
};

/// An element whose calls are prepared by a function first.
pub(crate) struct Given<E, F>(pub(crate) E, pub(crate) F);

impl<E: Element, F: Fn(&mut Connection, &mut Context) + Send + Sync + 'static> Element for Given<E, F> {
    const NAME: &'static str = E::NAME;

    async fn request(&self, mut request: Request, next: Next) -> Result<Box<Connection>> {
        (self.1)(&mut request.connection, &mut request.context);
        self.0.request(request, next).await
    }

    async fn close(&self, mut close: Close, next: Next) -> Result<Box<Connection>> {
        (self.1)(&mut close.connection, &mut close.context);
        self.0.close(close, next).await
    }
}

/// A path of segments that expire so many seconds from now; none: without an expiry. Segment 0 has the connection's id.
pub(crate) fn path(connection: &mut Connection, index: u32, expiries: &[Option<u64>]) {
    let segment = |(at, expires): (usize, &Option<u64>)| PathSegment {
        name: format!("hop{at}"),
        id: if at == index as usize { connection.id.clone() } else { format!("id{at}") },
        expires: expires
            .map(|seconds| (std::time::SystemTime::now() + std::time::Duration::from_secs(seconds)).into()),
        ..PathSegment::default()
    };
    let path_segments = expiries.iter().enumerate().map(segment).collect();
    connection.path = Some(crate::api::Path { index, path_segments });
}
