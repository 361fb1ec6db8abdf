// SPDX-License-Identifier: Apache-2.0
//! Prints both chains as they are built, without running them.
//!
//! The rows are those of the real chains over a kernel and an IPAM in memory; nothing is called.

use std::{fmt::Write, io};

use crate::{
    chain::Chain,
    proxy::{chains, in_memory},
    task::Tasks,
};

/// Both chains, one row per line, in request order.
///
/// # Errors
/// `/proc` is not mounted.
pub(super) async fn chains() -> io::Result<String> {
    let tasks = Tasks::default();
    let parts = in_memory::parts("none", &tasks)?;
    let mut text = String::new();
    for (title, chain) in [("endpoint", chains::endpoint(&parts)), ("client", chains::client(&parts))] {
        rows(&mut text, title, &chain);
    }
    drop(parts);
    tasks.stop().await;
    Ok(text)
}

fn rows(text: &mut String, title: &str, chain: &Chain) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{title}");
    for name in chain.names() {
        let _infallible = writeln!(text, "  {name}");
    }
}

#[cfg(test)]
mod tests {
    /// The rows that are expected, and do not follow in this order.
    fn missing<'a>(text: &str, expected: &[&'a str]) -> Vec<&'a str> {
        let mut printed = text.lines().filter_map(|line| line.strip_prefix("  "));
        expected.iter().copied().filter(|row| !printed.any(|other| other == *row)).collect()
    }

    #[tokio::test]
    async fn g04_both_chains_are_printed_in_request_order() {
        let text = super::chains().await.unwrap();
        let (endpoint, client) = text.split_once("client\n").unwrap();
        assert!(endpoint.starts_with("endpoint\n"), "{endpoint}");
        assert!(
            missing(endpoint, &["trace", "authorize", "begin", "metadata", "ipam", "send_fd"]).is_empty()
        );
        assert!(missing(client, &["trace", "begin", "metadata", "heal", "ipam", "connect"]).is_empty());
        assert_eq!(missing(client, &["connect", "trace"]), ["trace"], "{client}");
    }
}
