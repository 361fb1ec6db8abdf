// SPDX-License-Identifier: Apache-2.0

//! Compares the operator's pages with the code: the reasons of health, of the degraded lines of the
//! log, and of a snapshot or an identity that cannot be used; and the bounds. Runs the command that
//! changes the operator's template.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// The files that make reasons.
const SOURCES: [&str; 17] = [
    "src/kernel/peer.rs",
    "src/kernel/status/mod.rs",
    "src/kernel/status/faults.rs",
    "src/kernel/sysctls/mod.rs",
    "src/kernel/sysctls/needed.rs",
    "src/proxy/app/shut_down.rs",
    "src/proxy/app/waits.rs",
    "src/proxy/egress.rs",
    "src/proxy/endpoint/mod.rs",
    "src/proxy/gateways.rs",
    "src/proxy/health/board/mod.rs",
    "src/proxy/mesh/status.rs",
    "src/proxy/services.rs",
    "src/proxy/snapshot/format.rs",
    "src/proxy/snapshot/report.rs",
    "src/proxy/snapshot/writer/mod.rs",
    "src/transport/identity/state.rs",
];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The string literals of a line of code, with at least two words.
fn literals(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2).filter(|text| text.trim().contains(' '))
}

/// The longest part of a text without a value in it.
fn fixed(text: &str) -> &str {
    let parts = text.split(['{', '}']).step_by(2);
    let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
    longest.trim_matches(|c: char| !c.is_alphanumeric())
}

/// The reasons in the code of a file, up to its tests.
fn reasons(file: &str) -> Vec<String> {
    let text = read(file);
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.contains("tracing::") && !line.starts_with("#[cfg"));
    lines.flat_map(literals).map(|text| fixed(text).to_owned()).filter(|text| text.contains(' ')).collect()
}

#[test]
fn every_reason_is_on_the_operations_page() {
    let page = read("docs/operations.md");
    let mut missing = Vec::new();
    let mut found = 0;
    for file in SOURCES {
        for reason in reasons(file) {
            if page.contains(&reason) {
                found += 1;
            } else {
                missing.push(format!("{file}: {reason}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/operations.md lacks\n{}", missing.join("\n"));
    assert!(found > 60, "only {found} reasons were found in the code");
}

#[test]
fn every_source_of_degradations_is_read() {
    let needles = [".degrade(", ".lacks(", ".waits_on(", ".works_on("];
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => files.push(path),
            }
        }
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let name = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        let reports = needles.iter().any(|needle| code.contains(needle));
        // These pass on what others report: texts of the kernel, and the board itself.
        let passes_on = name.contains("/health/") || name.ends_with("/faults.rs") || name.contains("tests");
        assert!(!reports || passes_on || SOURCES.contains(&name.as_str()), "{name} is not among the sources");
    }
}

#[test]
fn every_bound_on_the_tuning_page_is_that_of_the_code() {
    let page = read("docs/tuning.md");
    let (_, table) = page.split_once("| bound | value | in the code |").unwrap();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.contains("src/")) {
        let [_, file, _, constant, ..] = row.split('`').collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert!(read(file).contains(&format!("const {constant};")), "{file} has no `{constant}`");
        rows += 1;
    }
    assert!(rows >= 10, "only {rows} bounds were read");
}

#[test]
fn the_upgrade_pages_command_changes_one_image() {
    let page = read("docs/upgrade.md");
    let (_, block) = page.split_once("```sh\n").unwrap();
    let (command, _) = block.split_once("\n```").unwrap();
    let template = "\
data:
  proxy.yaml: |-
     initContainers:
       - name: sysctl-init
         image: registry.nordix.org/cloud-native/meridio/busybox:1.29
     containers:
       - name: proxy
         image: registry.nordix.org/cloud-native/meridio/proxy:v1.2.8
         imagePullPolicy:
  stateless-lb-frontend.yaml: |-
       - name: stateless-lb
         image: registry.nordix.org/cloud-native/meridio/stateless-lb:v1.2.8
";
    let expected = template.replace(
        "registry.nordix.org/cloud-native/meridio/proxy:v1.2.8",
        "registry.example.org/meridio-proxy:0.1.0",
    );
    let mut shell = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(template.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn every_command_on_the_operators_pages_exists() {
    let mut seen = std::collections::BTreeSet::new();
    for page in ["docs/operations.md", "docs/upgrade.md", "docs/tuning.md"] {
        let text = read(page);
        let commands = text.split("./proxy ").skip(1).filter_map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphabetic() && c != '-').next().map(str::to_owned)
        });
        seen.extend(commands);
    }
    assert!(seen.len() >= 3, "{seen:?}");
    for command in seen {
        let mut proxy = Command::new(env!("CARGO_BIN_EXE_proxy"));
        let output = proxy.args([&command, "--help"]).env_clear().output().unwrap();
        assert!(output.status.success(), "`proxy {command}`: {}", String::from_utf8_lossy(&output.stderr));
    }
}
