// SPDX-License-Identifier: Apache-2.0

//! Goes through `docs/first-incident.md` in the console of the lab, and compares each output with
//! that of the page.
//!
//! A command is repeated until its output fits, because a fault takes a moment to show. `…` stands
//! for any lines. Values that differ from run to run (times, counters, process ids, MAC addresses)
//! are not compared. Links have random names: the first one that is printed in the place of a
//! link of the page is that link from then on.
#![allow(clippy::unwrap_used, clippy::expect_used)] // in tests and their helpers

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const LAB: &str = env!("CARGO_BIN_EXE_lab");
const PROMPT: &str = "lab> ";
/// Timeout for an output to fit.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// The links of the page, each with the one of this run.
type Links = BTreeMap<String, String>;

struct Console {
    lab: Child,
    commands: ChildStdin,
    output: ChildStdout,
}

impl Console {
    fn start() -> Self {
        let proxy = Path::new(LAB).with_file_name("proxy");
        assert!(proxy.exists(), "no {}: `cargo build --bins` makes it", proxy.display());
        let mut lab = Command::new(LAB);
        lab.arg("--console").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut lab = lab.spawn().unwrap();
        let commands = lab.stdin.take().unwrap();
        let output = lab.stdout.take().unwrap();
        let mut console = Self { lab, commands, output };
        console.printed();
        console
    }

    /// The output up to the next prompt.
    fn printed(&mut self) -> String {
        let mut printed = Vec::new();
        let mut part = [0; 4096];
        while !printed.ends_with(PROMPT.as_bytes()) {
            let length = self.output.read(&mut part).unwrap();
            assert!(length > 0, "the lab has ended: {}", String::from_utf8_lossy(&printed));
            printed.extend(&part[..length]);
        }
        printed.truncate(printed.len() - PROMPT.len());
        String::from_utf8(printed).unwrap()
    }

    fn run(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        self.printed()
    }

    /// Ends the lab by the end of its input.
    fn end(self) {
        let Self { mut lab, commands, output: _output } = self;
        drop(commands);
        assert!(lab.wait().unwrap().success());
    }
}

/// The commands of the page with their outputs.
fn transcript() -> Vec<(String, Vec<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/first-incident.md");
    let page = fs::read_to_string(page).unwrap();
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix(PROMPT) {
            _ if line.starts_with("```") => inside = line == "```console",
            Some(command) if inside => found.push((command.to_owned(), Vec::new())),
            None if inside => {
                found.last_mut().expect("a listing begins with a command").1.push(line.to_owned())
            }
            _ => {}
        }
    }
    for (_, output) in &mut found {
        while output.last().is_some_and(String::is_empty) {
            output.pop();
        }
    }
    found
}

/// Whether both words are links of one kind, or addresses of load balancers of one family: these
/// differ from run to run.
fn are_alike(expected: &str, printed: &str) -> bool {
    let links = ["load-balan-", "proxy.load-"];
    let is_link = |word: &str, kind| word.strip_prefix(kind).is_some_and(|id| id.len() == 4);
    let addresses = ["169.255.0.", "fd00::"];
    let is_address = |word: &str, net| word.strip_prefix(net).is_some_and(|id| id.parse::<u8>().is_ok());
    links.iter().any(|kind| is_link(expected, *kind) && is_link(printed, *kind))
        || addresses.iter().any(|net| is_address(expected, *net) && is_address(printed, *net))
}

/// Words of a line without counters, where each time, process id, MAC address and number of passes
/// is `#`.
fn words(line: &str) -> Vec<String> {
    let line = line.split_once("; rx ").map_or(line, |(object, _counters)| object);
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let last = words.last().map(String::as_str);
        let is_value = is_time(word) || is_mac(word) || matches!(last, Some("pid" | "(pass"));
        match is_value {
            true if last == Some("#") => {} // `3m` and `2m 59s` are both a time
            true => words.push("#".to_owned()),
            false => words.push(word.to_owned()),
        }
    }
    words
}

/// A span such as `59m` or `<=20ms`, or a moment.
fn is_time(word: &str) -> bool {
    let word = word.trim_end_matches(',').trim_start_matches("<=");
    let span = word.strip_suffix("ms").or_else(|| word.strip_suffix(['d', 'h', 'm', 's']));
    let span = span.is_some_and(|count| count.parse::<u32>().is_ok());
    span || (word.len() > 20 && word.ends_with("+00:00"))
}

fn is_mac(word: &str) -> bool {
    word.len() == 17 && word.split(':').all(|part| u8::from_str_radix(part, 16).is_ok())
}

/// Whether a line is that of the page; links and addresses that the page has not named yet are
/// taken from it.
fn is_same(page: &str, printed: &str, links: &mut Links) -> bool {
    let expected = words(page);
    let printed = words(printed);
    expected.len() == printed.len()
        && expected.iter().zip(&printed).all(|(expected, printed)| match are_alike(expected, printed) {
            true => links.entry(expected.clone()).or_insert_with(|| printed.clone()) == printed,
            false => expected == printed,
        })
}

/// Whether lines are those of the page, where `…` stands for any of them.
fn fits(page: &[String], printed: &[&str], links: &mut Links) -> bool {
    match page.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any == "…" => (0..=printed.len()).any(|at| fits(rest, &printed[at..], links)),
        Some((line, rest)) => printed
            .split_first()
            .is_some_and(|(first, others)| is_same(line, first, links) && fits(rest, others, links)),
    }
}

/// Runs a command until its output is that of the page.
fn check(console: &mut Console, command: &str, page: &[String], links: &mut Links) {
    let words = command.split(' ').map(|word| links.get(word).map_or(word, String::as_str));
    let here = words.collect::<Vec<_>>().join(" ");
    let end = Instant::now() + PATIENCE;
    loop {
        let printed = console.run(&here);
        let mut known = links.clone();
        if fits(page, &printed.trim_end().lines().collect::<Vec<_>>(), &mut known) {
            *links = known;
            return;
        }
        let looks = command.starts_with("proxy ");
        assert!(
            looks && Instant::now() < end,
            "`{command}` does not print the page's output but:\n{printed}"
        );
        sleep(PAUSE);
    }
}

#[test]
fn each_command_of_the_first_incident_prints_its_output() {
    let transcript = transcript();
    assert!(transcript.len() > 20, "{}", transcript.len());
    let mut console = Console::start();
    let mut links = Links::new();
    for (command, page) in &transcript {
        check(&mut console, command, page, &mut links);
    }
    console.end();
}

#[test]
fn only_values_that_differ_between_runs_are_not_compared() {
    let same = |page: &str, printed: &str| is_same(page, printed, &mut Links::new());
    assert!(same("up 3s, valid for 59m 57s", "up 1m 2s, valid for 59m"));
    assert!(same("lladdr 02:00:00:00:00:02 Reachable", "lladdr ca:9b:d9:43:98:6b Reachable"));
    assert!(same("port load-balan-AAAA; rx 3", "port load-balan-BBBB; rx 4, 2 tx dropped"));
    assert!(!same("load balancer lb1", "load balancer lb2"));
    assert!(!same("IPAM up", "IPAM down"));
    assert!(!same("1 of 2 carry", "2 of 2 carry"));
    let mut links = Links::new();
    assert!(is_same("load-balan-AAAA is up", "load-balan-BBBB is up", &mut links));
    assert!(!is_same("load-balan-AAAA is up", "load-balan-CCCC is up", &mut links));
}
