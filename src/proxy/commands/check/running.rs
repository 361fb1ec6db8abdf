// SPDX-License-Identifier: Apache-2.0

//! Checks of the proxy that runs: its version, and its identity beside the clock.

use super::Finding;
use crate::{
    proxy::{
        commands::admin::{self, AdminError},
        state::{Document, Identity},
    },
    transport::Address,
};

/// Reads the proxy's own state.
pub(super) async fn findings(admin: Option<&Address>) -> Vec<Finding> {
    match admin::document(admin).await {
        Ok(document) => vec![version(&document), identity(document.identity.as_ref())],
        Err(AdminError::NoProxy(target, _)) => {
            vec![Finding::ok(
                "proxy",
                format!("none runs at {target}: its identity and version are not checked"),
            )]
        }
        Err(error) => {
            let repair = "NSM_ADMIN_ADDRESS=127.0.0.1:9090, or --admin ADDRESS";
            let breaks = "status, inspect, plan and diags cannot read the proxy";
            vec![Finding::warning("proxy", crate::chain::causes(&error).to_string(), breaks, repair)]
        }
    }
}

fn version(document: &Document) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let running = &document.process.version;
    match running == ours {
        true => Finding::ok("version", format!("{ours}, as the proxy that runs")),
        false => {
            let breaks = "nothing; but this program may read less of the state than there is";
            let found = format!("{ours}; the proxy that runs is {running}");
            Finding::warning("version", found, breaks, "run the program of the pod's image")
        }
    }
}

/// An SVID that has expired by the clock of this node.
fn identity(identity: Option<&Identity>) -> Finding {
    const BREAKS: &str = "no peer accepts the proxy";
    const REPAIR: &str = "see the SPIRE agent and the registration of this pod, and compare the clock of this node \
                          with that of the SPIRE server";
    let left = identity.and_then(|identity| identity.expires_in_seconds);
    let why = identity.and_then(|identity| identity.error.as_deref());
    let why = why.map(|error| format!(" ({error})")).unwrap_or_default();
    match left {
        None => Finding::failed("identity", format!("no SVID{why}"), BREAKS, REPAIR),
        Some(0) => Finding::failed("identity", format!("the SVID has expired{why}"), BREAKS, REPAIR),
        Some(left) => Finding::ok("identity", format!("the SVID is valid for {left} s{why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};
    use crate::proxy::commands::sample;

    #[test]
    fn an_expired_identity_and_another_version_are_found() {
        let mut document = sample::well();
        assert_eq!(version(&document).state, State::Ok);
        document.process.version = "0.0.0".into();
        assert_eq!(version(&document).state, State::Warning);
        let mut own = document.identity.clone().unwrap();
        assert_eq!(identity(Some(&own)).state, State::Ok);
        own.expires_in_seconds = Some(0);
        assert_eq!(identity(Some(&own)).state, State::Failed);
        assert_eq!(identity(None).state, State::Failed);
    }

    #[tokio::test]
    async fn without_a_proxy_its_checks_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let none = Address::Unix(folder.path().join("none"));
        let found = findings(Some(&none)).await;
        assert!(found.len() == 1 && found[0].state == State::Ok, "{found:?}");
        assert_eq!(findings(None).await[0].state, State::Warning);
    }
}
