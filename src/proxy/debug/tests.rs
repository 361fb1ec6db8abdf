// SPDX-License-Identifier: Apache-2.0

use serde_json::Value;

use super::*;

#[tokio::test]
async fn the_export_is_one_line_with_the_keys_of_its_format() {
    let line = export().await.unwrap();
    assert!(!line.contains('\n'));
    let export: Value = serde_json::from_str(&line).unwrap();
    let keys: Vec<_> = export.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "version",
        "meridio-version",
        "unix-time",
        "network-interfaces",
        "rules",
        "route",
        "conntrack-table",
        "neighbors",
        "system",
        "processes",
        "environment-variables",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(export["version"], "v0.0.1");
}

#[test]
fn values_that_may_be_secret_are_masked() {
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "API_KEY", "my_password", "AccessToken", "CREDENTIALS"] {
        assert_eq!(variable(name, "hunter2"), format!("{name}=***"));
    }
    assert_eq!(variable("NSM_TRENCH", "red"), "NSM_TRENCH=red");
}
