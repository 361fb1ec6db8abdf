// SPDX-License-Identifier: Apache-2.0

//! Reads the trace context of a caller from its headers.

use tonic::metadata::MetadataMap;

use crate::transport::trace_context::{TRACEPARENT, TRACESTATE};

/// The W3C trace context that came with a call, unchanged; inserted into the extensions of its
/// [`CallContext`](crate::chain::CallContext). The texts are untrusted and bounded; their users
/// must check them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Header `traceparent`.
    pub traceparent: String,
    /// Header `tracestate`; several are joined with commas. Empty if there is none.
    pub tracestate: String,
}

/// Maximum length of a header, in bytes.
const MAX: usize = 1 << 10;

impl TraceContext {
    /// Reads the headers. `None` without exactly one `traceparent`, or if it is too long: tracing
    /// never fails a call.
    pub fn read(metadata: &MetadataMap) -> Option<Self> {
        let mut parents = metadata.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let traceparent = parent.to_str().ok().filter(|text| text.len() <= MAX)?.to_owned();
        let states: Vec<_> =
            metadata.get_all(TRACESTATE).iter().filter_map(|state| state.to_str().ok()).collect();
        let tracestate = states.join(",");
        Some(Self {
            traceparent,
            tracestate: if tracestate.len() <= MAX { tracestate } else { String::new() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Option<(String, String)> {
        let mut metadata = MetadataMap::new();
        for (key, value) in headers {
            metadata.append(*key, value.parse().unwrap());
        }
        TraceContext::read(&metadata).map(|context| (context.traceparent, context.tracestate))
    }

    #[test]
    fn takes_one_parent_and_all_states_within_bounds() {
        let long = "x".repeat(MAX + 1);
        let got = |parent: &str, state: &str| Some((parent.to_owned(), state.to_owned()));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("traceparent", "p")]), got("p", ""));
        assert_eq!(
            read(&[("traceparent", "p"), ("tracestate", "a=1"), ("tracestate", "b=2")]),
            got("p", "a=1,b=2")
        );
        assert_eq!(read(&[("tracestate", "a=1")]), None);
        assert_eq!(read(&[("traceparent", "p"), ("traceparent", "q")]), None);
        assert_eq!(read(&[("traceparent", &long)]), None);
        assert_eq!(read(&[("traceparent", "p"), ("tracestate", &long)]), got("p", ""), "the parent is kept");
    }
}
