// SPDX-License-Identifier: Apache-2.0

//! Accessors for the fields of a connection that a hop reads and writes.

use std::time::SystemTime;

use super::pb::{
    connection::{Connection, Path, PathSegment},
    connectioncontext::{ConnectionContext, IpContext},
};

impl Connection {
    /// A connection with only an id.
    pub fn named(id: impl Into<String>) -> Box<Self> {
        Box::new(Self { id: id.into(), ..Self::default() })
    }

    /// The segments of the path, from client to endpoint.
    pub fn segments(&self) -> &[PathSegment] {
        self.path.as_ref().map_or(&[], |path| &path.path_segments)
    }

    /// The path, created if absent.
    pub fn path_mut(&mut self) -> &mut Path {
        self.path.get_or_insert_default()
    }

    /// Index of the current hop in the path; 0 without a path.
    pub fn index(&self) -> usize {
        self.path.as_ref().map_or(0, |path| path.index as usize)
    }

    /// The segment of the current hop.
    pub fn own_segment(&self) -> Option<&PathSegment> {
        self.segments().get(self.index())
    }

    /// The segment of the hop before the current one.
    pub fn previous_segment(&self) -> Option<&PathSegment> {
        self.segments().get(self.index().checked_sub(1)?)
    }

    /// Id of the connection at the client that started it: the id of segment 0. It outlives every
    /// hop in between.
    pub fn client_id(&self) -> &str {
        self.segments().first().map_or(&self.id, |segment| &segment.id)
    }

    /// Earliest expiry of the tokens in the path. A segment without an expiry does not count.
    pub fn expires(&self) -> Option<SystemTime> {
        self.segments().iter().filter_map(PathSegment::expires_at).min()
    }

    /// The context, created if absent.
    pub fn context_mut(&mut self) -> &mut ConnectionContext {
        self.context.get_or_insert_default()
    }

    /// The IP context, created if absent.
    pub fn ip_context_mut(&mut self) -> &mut IpContext {
        self.context_mut().ip_context.get_or_insert_default()
    }

    /// The IP context, if present.
    pub fn ip_context(&self) -> Option<&IpContext> {
        self.context.as_ref()?.ip_context.as_ref()
    }
}

impl PathSegment {
    /// Expiry of the token; `None` if absent or out of range.
    pub fn expires_at(&self) -> Option<SystemTime> {
        SystemTime::try_from(self.expires?).ok()
    }
}
