// SPDX-License-Identifier: Apache-2.0

//! Ends the path of an answer at this hop (NSM `trimpath`).
//!
//! A caller that reselects sends the segment that an earlier endpoint had to the right of ours,
//! with an old token in it. The connection ends here, so the segments to the right of our own are
//! dropped from the answer. A pass-through, which holds a wire to the next hop, keeps the path of
//! the next hop's answer.
//!
//! # Order
//! Below `metadata`; the own segment is set by `update_path`.

use crate::{
    api::Connection,
    chain::{Element, Next, Order, Request, Result},
};

/// Element that drops the segments to the right of its own.
///
/// ```
/// use nsm::{
///     chain::{Chain, begin::BeginLayer, metadata::MetadataLayer},
///     elements::{trim_path::TrimPath, update_path::UpdatePath},
///     task::Tasks,
/// };
///
/// let chain = Chain::new()
///     .with(UpdatePath::new("endpoint-1"))
///     .with(BeginLayer::endpoint(Tasks::default()))
///     .with(MetadataLayer)
///     .with(TrimPath::default());
/// assert_eq!(chain.to_string(), "update_path → begin → metadata → trim_path");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TrimPath {
    passes_on: bool,
}

impl TrimPath {
    /// For a chain inside a pass-through: drops nothing.
    pub const PASS_THROUGH: Self = Self { passes_on: true };
}

/// Drops the segments right of the current one.
fn trim(connection: &mut Connection) {
    if let Some(path) = &mut connection.path {
        path.path_segments.truncate((path.index as usize).saturating_add(1));
    }
}

impl Element for TrimPath {
    const NAME: &'static str = "trim_path";
    const ORDER: Order = Order::ANY.after(&["update_path", "metadata"]);

    async fn request(&self, request: Request, next: Next) -> Result<Box<Connection>> {
        let mut connection = next.request(request).await?;
        if !self.passes_on {
            trim(&mut connection);
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::{Call, Chain, Error, laws},
        testing,
    };

    #[tokio::test]
    async fn an_answer_ends_at_this_hop_unless_it_is_passed_on() {
        // hop, index, segments, segments left
        let table = [
            (TrimPath::default(), 2, 4, 3),
            (TrimPath::default(), 3, 4, 4),
            (TrimPath::default(), 9, 4, 4),
            (TrimPath::default(), u32::MAX, 4, 4),
            (TrimPath::default(), 0, 0, 0),
            (TrimPath::PASS_THROUGH, 2, 4, 4),
        ];
        for (element, index, segments, left) in table {
            let mut connection = Connection::named("a");
            testing::path(&mut connection, index, &vec![None; segments]);
            let end = tower::service_fn(|call: Call| async { Ok::<_, Error>(call.into_connection()) });
            let chain = Chain::new().with(element).end(end).build().unwrap();
            let answer = chain.request(Request::new(connection)).await.unwrap();
            assert_eq!(answer.segments().len(), left, "{element:?}, {index} of {segments}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_laws() {
        laws::check(TrimPath::default).await.unwrap();
    }
}
