// SPDX-License-Identifier: Apache-2.0

//! Compares `deploy` with the proxy's table of variables, which that of `docs/configuration.md` is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nsm::proxy::config::VARIABLES;

use crate::listed;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The text of every file below a folder.
fn texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: PathBuf| match path.is_dir() {
        true => texts(&path),
        false => vec![(path.clone(), fs::read_to_string(&path).unwrap())],
    };
    paths.flat_map(text).collect()
}

/// Words of a text that are written as variables of the proxy.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let capitals = words.filter(|word| !word.contains(|c: char| c.is_ascii_lowercase()));
    capitals.filter(|word| word.starts_with("NSM") || word.contains('_') && !word.starts_with("SCMP_"))
}

#[test]
fn every_variable_of_the_manifests_exists() {
    // Capabilities; and the name of nsmgr's product.
    let others = ["NET_ADMIN", "NET_RAW", "NSM"];
    let known = |name: &str| VARIABLES.iter().any(|one| one.name == name || one.alias == Some(name));
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in texts(&deploy()) {
        for name in variables(&text).filter(|name| !others.contains(name)) {
            count += 1;
            if !known(name) {
                wrong.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(count > 15, "only {count} variables were read");
    assert!(wrong.is_empty(), "the proxy has no such variable:\n{}", wrong.join("\n"));
}

#[test]
fn the_manifests_set_each_variable_that_a_pod_needs() {
    let required = VARIABLES.iter().filter(|one| one.meaning.ends_with("; required"));
    let mut needed: Vec<_> = required.map(|one| one.name).collect();
    assert_eq!(needed, ["SPIFFE_ENDPOINT_SOCKET"]);
    // These have a default, of a pod, node, namespace or conduit that does not exist.
    needed.extend(["NSM_NAME", "NSM_HOST", "NSM_NAMESPACE", "NSM_TRENCH", "NSM_CONDUIT"]);
    needed.extend(["NSM_SERVICE_NAME", "NSM_NETWORK_SERVICE_NAME", "NSM_IPAM_SERVICE"]);
    for file in ["base.env", "example.env", "meridio-chart.env", "meridio-operator.env"] {
        let set = listed(file);
        let missing: Vec<_> = needed.iter().filter(|name| !set.contains_key(**name)).collect();
        assert!(missing.is_empty(), "{file} does not set {missing:?}");
    }
}

#[test]
fn the_ports_of_the_manifests_are_those_of_the_variables() {
    let port = |name| VARIABLES.iter().find(|one| one.name == name).unwrap().default;
    let metrics = port("NSM_METRICS_PORT");
    let base = listed("base.env");
    let (_, ipam) = base["NSM_IPAM_SERVICE"].split_once(':').unwrap();
    for (file, line) in [
        ("components/metrics/kustomization.yaml", format!("containerPort: {metrics}\n")),
        ("components/metrics/networkpolicy.yaml", format!("port: {metrics}\n")),
        ("base/networkpolicy.yaml", format!("port: {ipam}\n")),
        ("base/networkpolicy.yaml", format!("port: {}\n", base["NSM_NSP_SERVICE_PORT"])),
    ] {
        let text = fs::read_to_string(deploy().join(file)).unwrap();
        assert!(text.contains(&line), "{file} lacks `{line}`");
    }
}
