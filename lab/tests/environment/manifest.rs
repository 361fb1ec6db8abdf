// SPDX-License-Identifier: Apache-2.0

//! The environment that the kubelet makes of `deploy/base`.

use std::{fs, path::Path};

use crate::Environment;

/// Values that Kubernetes provides, and those of the base's ConfigMap.
const PROVIDED: [(&str, &str); 5] = [
    ("fieldPath: metadata.name", "proxy-x7k2p"),
    ("fieldPath: metadata.namespace", "red"),
    ("fieldPath: spec.nodeName", "worker-1"),
    ("key: trench", "default"),
    ("key: conduit", "load-balancer"),
];

/// The variables of the proxy's container. A value may name those before it, as `$(NAME)`.
pub(crate) fn environment() -> Environment {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/daemonset.yaml");
    let text = fs::read_to_string(path).unwrap();
    let (_, after) = text.split_once("        env:\n").unwrap();
    let (list, _) = after.split_once("        startupProbe:\n").unwrap();
    let mut environment = Environment::new();
    for item in list.split("        - name: ").skip(1) {
        let (name, rest) = item.split_once('\n').unwrap();
        let value = match rest.trim().strip_prefix("value: ") {
            Some(value) => value.trim_matches('"').to_owned(),
            None => PROVIDED
                .iter()
                .find_map(|(source, value)| rest.trim().ends_with(source).then(|| (*value).to_owned()))
                .unwrap(),
        };
        let expanded = environment
            .iter()
            .fold(value, |value, (name, known)| value.replace(&format!("$({name})"), known));
        assert!(!expanded.contains("$("), "{name}={expanded} names a variable that is not before it");
        environment.insert(name.to_owned(), expanded);
    }
    environment
}
