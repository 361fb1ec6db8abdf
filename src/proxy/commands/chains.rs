// SPDX-License-Identifier: Apache-2.0

//! Prints the rows of both chains.

use std::fmt::Write;

use crate::proxy::chains;

/// Both chains, one row per line, in request order.
pub(crate) fn text() -> String {
    let mut text = String::new();
    for (chain, rows) in chains::ROWS {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{chain}");
        for row in rows {
            let _infallible = writeln!(text, "  {row}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_chains_are_printed_in_request_order() {
        let text = super::text();
        let (endpoint, client) = text.split_once("client\n").unwrap();
        assert!(
            endpoint.starts_with("endpoint\n  trace\n") && endpoint.ends_with("  send_fd\n"),
            "{endpoint}"
        );
        assert!(client.starts_with("  trace\n") && client.ends_with("  connect\n"), "{client}");
    }
}
