// SPDX-License-Identifier: Apache-2.0

//! Runs each command of `docs/commands.md`, and compares its output with that of the page.
//!
//! A listing `console,NAME` is run in the world NAME. In the page `…` stands for any lines, and
//! counters of links are not compared. The running proxy is a listener that serves `state.json`,
//! changed by the world; the lab reads a real one.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

mod namespace;

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output},
    thread,
};

use serde_json::{Value, json};

/// A command of the page, with the name of its world, its output, and the line where it stands.
struct Listing {
    world: String,
    command: String,
    output: Vec<String>,
}

fn listings() -> Vec<Listing> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md")).unwrap();
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(world) = line.strip_prefix("```console,") else { continue };
        let body = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned);
        let mut body: Vec<_> = body.collect();
        let command = body
            .remove(0)
            .strip_prefix("$ proxy")
            .expect("a listing begins with `$ proxy`")
            .trim()
            .to_owned();
        found.push(Listing { world: world.to_owned(), command, output: body });
    }
    found
}

/// The state that the listener of a world serves; `None` without a listener.
fn state(world: &str) -> Option<Value> {
    let mut state: Value = serde_json::from_str(include_str!("state.json")).unwrap();
    match world {
        "well" => {}
        "silent" => {
            let why = "it does not answer";
            let balancer = &mut state["mesh"]["load_balancers"][1];
            balancer["reach"] = "silent".into();
            balancer["next_hops"][0] =
                json!({"address": "172.16.0.3", "installed": false, "withheld": why, "answers": false});
            let left_out = format!("load balancer px-lb-2: next hop 172.16.0.3 is left out: {why}");
            state["kernel"]["difference"] = json!([left_out]);
            state["health"][2]["degraded"] = json!([left_out]);
        }
        _ => return None,
    }
    Some(state)
}

/// Answers every request with the state.
fn serve(listener: UnixListener, state: &Value) {
    let body = state.to_string();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        let known = request[..length].starts_with(b"GET /state ");
        let (status, body) = if known { ("200 OK", body.as_str()) } else { ("404 Not Found", "unknown\n") };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        let _gone = stream.write_all(answer.as_bytes());
    }
}

/// Runs a command line of a shell in a folder, with a listener there if the world has one.
fn run(world: &str, command: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    if let Some(state) = state(world) {
        let listener = UnixListener::bind(folder.path().join("admin.sock")).unwrap();
        thread::spawn(move || serve(listener, &state));
    }
    let mut proxy = Command::new(env!("CARGO_BIN_EXE_proxy"));
    proxy.args(command.split_whitespace()).current_dir(&folder).env_clear();
    proxy.env("NSM_ADMIN_ADDRESS", format!("unix://{}/admin.sock", folder.path().display()));
    proxy.env("SPIFFE_ENDPOINT_SOCKET", "unix:///nowhere/spire-agent.sock");
    match world {
        "namespace" => namespace::within(move || proxy.output().unwrap()),
        _ => proxy.output().unwrap(),
    }
}

/// The lines of an output, with `/run` in place of the folder of its world.
fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8([&*output.stdout, &output.stderr].concat()).unwrap();
    let folder = std::env::temp_dir().join(".tmp").display().to_string();
    let lines = text.trim_end().lines().map(|line| match line.split_once(&folder) {
        Some((before, after)) => {
            format!("{before}/run{}", after.trim_start_matches(|c: char| c.is_alphanumeric()))
        }
        None => line.to_owned(),
    });
    lines.map(|line| without_counters(&line)).collect()
}

/// Counters are those of a moment.
fn without_counters(line: &str) -> String {
    line.split_once("; rx ").map_or(line, |(object, _)| object).to_owned()
}

/// Whether lines are as expected, where `…` stands for any of them.
fn fits(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "…" => (0..=lines.len()).any(|at| fits(rest, &lines[at..])),
        Some((line, rest)) => {
            lines.split_first().is_some_and(|(first, others)| first == line && fits(rest, others))
        }
    }
}

#[test]
fn each_command_of_the_page_prints_the_output_of_the_page() {
    let listings = listings();
    assert!(listings.len() > 10, "{}", listings.len());
    let mut wrong = Vec::new();
    for Listing { world, command, output } in &listings {
        let ran = run(world, command);
        let printed = lines(&ran);
        let output: Vec<_> = output.iter().map(|line| without_counters(line)).collect();
        if !fits(&output, &printed) {
            wrong.push(format!("$ proxy {command} ({world})\n{}", printed.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "docs/commands.md differs from:\n\n{}", wrong.join("\n\n"));
}

#[test]
fn the_page_has_every_command() {
    let help = String::from_utf8(run("none", "--help").stdout).unwrap();
    let names =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{help}");
    let listings = listings();
    for name in names {
        let shown = listings.iter().any(|listing| listing.command.split(' ').next() == Some(name));
        assert!(shown, "docs/commands.md lacks {name}");
    }
}

#[test]
fn exit_codes_tell_how_the_proxy_is() {
    let table = [
        ("well", "status", 0),
        ("well", "plan", 0),
        ("well", "inspect events --json", 0),
        ("silent", "status", 0),
        ("silent", "plan", 2),
        ("none", "status", 1),
        ("none", "plan", 1),
        ("none", "inspect", 1),
        ("none", "check", 1),
        ("none", "explain 20.0.0.x", 2),
        ("namespace", "explain 20.0.0.1", 0),
        ("namespace", "explain 20.0.0.2", 1),
    ];
    for (world, command, code) in table {
        let output = run(world, command);
        assert_eq!(output.status.code(), Some(code), "{world} {command}: {output:?}");
    }
}

#[test]
fn json_is_for_programs_and_has_no_colours() {
    for command in ["status --json", "plan --json", "inspect vips --json", "check --json"] {
        let output = run("silent", command);
        let value: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{command}: {e}"));
        assert!(value.is_object(), "{value}");
    }
}
