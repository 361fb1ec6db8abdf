// SPDX-License-Identifier: Apache-2.0

//! The policy routes in a file of YAML, in NSM's format:
//!
//! ```yaml
//! - proto: tcp
//!   dstport: 6666
//!   from: 172.16.3.1/32
//!   routes:
//!     - prefix: 172.16.4.0/24
//!       nexthop: 172.16.1.0
//! ```
//!
//! The file is read every second. Without it there are no policies. One that cannot be read or is
//! not accepted is logged, and the policies before it stay.

use std::{
    fs::File,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nsm::{
    api::pb::connectioncontext::{PolicyRoute, Route},
    ipnet::IpNet,
};
use serde::Deserialize;
use tokio::{sync::watch, time::interval};

/// Time between two reads. A ConfigMap takes a minute to reach a pod.
const PACE: Duration = Duration::from_secs(1);
/// Maximum size of the file, in bytes.
const MAX_SIZE: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(default)]
    from: Option<Prefix>,
    #[serde(default)]
    proto: String,
    #[serde(default)]
    dstport: Port,
    #[serde(default)]
    srcport: Port,
    #[serde(default)]
    routes: Vec<Way>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Way {
    prefix: Prefix,
    #[serde(default)]
    nexthop: Option<IpAddr>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Prefix(IpNet);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let prefix = text.parse().map_err(|_| format!("{text:?} is not a prefix such as 172.16.4.0/24"));
        prefix.map(Self)
    }
}

/// A port, also one in quotes; empty for any.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Port {
    #[default]
    Any,
    Number(u16),
    Text(String),
}

impl Port {
    fn text(self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl From<Policy> for PolicyRoute {
    fn from(policy: Policy) -> Self {
        Self {
            from: policy.from.map(|source| source.0.to_string()).unwrap_or_default(),
            proto: policy.proto,
            dst_port: policy.dstport.text(),
            src_port: policy.srcport.text(),
            routes: policy
                .routes
                .into_iter()
                .map(|way| Route {
                    prefix: way.prefix.0.to_string(),
                    next_hop: way.nexthop.map(|hop| hop.to_string()).unwrap_or_default(),
                })
                .collect(),
        }
    }
}

/// The text of the file; `None` if there is none.
fn text(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.take(MAX_SIZE + 1).read_to_string(&mut text)?,
    };
    let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
    if size > MAX_SIZE {
        return Err(io::Error::other(format!("larger than {MAX_SIZE} bytes")));
    }
    Ok(Some(text))
}

fn read(path: &Path) -> Result<Vec<PolicyRoute>, Box<dyn std::error::Error>> {
    let text = text(path)?.unwrap_or_default();
    let policies: Option<Vec<Policy>> = serde_yaml_ng::from_str(&text)?;
    Ok(policies.unwrap_or_default().into_iter().map(PolicyRoute::from).collect())
}

/// The policies, and a future that follows the file.
pub(crate) fn follow(path: PathBuf) -> (watch::Receiver<Vec<PolicyRoute>>, impl Future<Output = ()> + Send) {
    let (sender, policies) = watch::channel(Vec::new());
    let mut failed = None;
    let mut update = move || match read(&path) {
        Ok(policies) => {
            failed = None;
            if *sender.borrow() != policies {
                tracing::info!(path = %path.display(), count = policies.len(), "policy routes changed");
                sender.send_replace(policies);
            }
        }
        Err(error) => {
            let error = error.to_string();
            if failed.as_ref() != Some(&error) {
                tracing::error!(path = %path.display(), error, "policy routes not accepted");
            }
            failed = Some(error);
        }
    };
    update();
    let follow = async move {
        let mut tick = interval(PACE);
        loop {
            tick.tick().await;
            update();
        }
    };
    (policies, follow)
}
