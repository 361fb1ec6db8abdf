// SPDX-License-Identifier: Apache-2.0
//! Runs the real binary with its flags, with malformed variables, and as a probe.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

use std::process::{Command, Output};

use nsm::{
    proxy::{
        config::VARIABLES,
        health::{self, Health, Part},
    },
    task::Tasks,
};

fn proxy(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version_work_with_one_dash_or_two() {
    for flag in ["--help", "-help", "-h", "help"] {
        let output = proxy(&[flag], &[]);
        assert!(output.status.success(), "{flag}");
        assert!(text(&output.stdout).contains("Usage: proxy"), "{flag}");
    }
    for flag in ["--version", "-version"] {
        let output = proxy(&[flag], &[]);
        assert!(output.status.success(), "{flag}");
        assert_eq!(text(&output.stdout).trim(), env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn help_has_every_variable_on_a_page_of_its_own() {
    let output = proxy(&["help", "variables"], &[]);
    assert!(output.status.success());
    for variable in VARIABLES {
        assert!(text(&output.stdout).contains(variable.name), "{}", variable.name);
    }
}

#[test]
fn an_unknown_argument_is_named_and_exits_with_2() {
    for arguments in [&["--verbose"][..], &["-x"], &["serve"], &["probe"], &["probe", "a", "--x"]] {
        let output = proxy(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let named = arguments.last().unwrap();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(named) && stderr.contains("accepted: "), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

/// Every bash has the syntax check `-n`; it does not run the script.
#[test]
fn bash_accepts_its_completions() {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), proxy(&["completions", "bash"], &[]).stdout).unwrap();
    let output = Command::new("bash").arg("-n").arg(script.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_probe_without_a_server_names_the_cause_once() {
    let output = proxy(&["probe", "Readiness", "--socket", "/nowhere/health.sock"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert_eq!(stderr.matches("No such file").count(), 1, "{stderr}");
    assert!(stderr.contains("/nowhere/health.sock"), "{stderr}");
}

#[test]
fn g01_every_malformed_variable_has_a_critical_line() {
    let output = proxy(
        &[],
        &[("NSM_MTU", "jumbo"), ("IP_FAMILY", "ipv5"), ("NSM_DIAL_TIMEOUT", "5"), ("TELEMETRY", "yes")],
    );
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let found: Vec<_> = lines
        .iter()
        .map(|line| {
            assert_eq!(line["severity"], "critical", "{line}");
            assert!(!line["extra_data"]["accepted"].as_str().unwrap().is_empty());
            let field = |name: &str| line["extra_data"][name].as_str().unwrap().to_owned();
            (field("variable"), field("value"))
        })
        .collect();
    let expected = [
        ("NSM_DIAL_TIMEOUT", "5"),
        ("IP_FAMILY", "ipv5"),
        ("SPIFFE_ENDPOINT_SOCKET", ""),
        ("NSM_MTU", "jumbo"),
    ];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_mistake_in_telemetry_is_no_malformed_variable() {
    let telemetry = [
        ("TELEMETRY", "true"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_SDK_DISABLED", "yes"),
    ];
    let stdout = text(&proxy(&[], &telemetry).stdout);
    assert!(stdout.contains("SPIFFE_ENDPOINT_SOCKET"), "what is malformed: {stdout}");
    assert!(!stdout.contains("OTEL_") && !stdout.contains("TELEMETRY"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_exits_with_0_only_if_the_service_is_serving() {
    let directory = tempfile::tempdir().unwrap();
    let tasks = Tasks::default();
    let board = Health::default();
    let socket = directory.path().join("health.sock");
    let probe = async |name: &'static str| {
        let socket = socket.to_str().unwrap().to_owned();
        tokio::task::spawn_blocking(move || {
            proxy(&["probe", name, "--socket", &socket, "--timeout", "5s"], &[])
        })
        .await
        .unwrap()
        .status
        .code()
    };
    assert_eq!(probe("").await, Some(2), "nobody listens");
    let _served = health::serve(&socket, &board, &tasks).await.unwrap();
    assert_eq!(probe("").await, Some(0));
    assert_eq!(probe("Readiness").await, Some(4));
    assert_eq!(probe("nobody").await, Some(3));
    for part in Part::ALL {
        board.set(part, true, "");
    }
    assert_eq!(probe("Readiness").await, Some(0));
    tasks.stop().await;
}
