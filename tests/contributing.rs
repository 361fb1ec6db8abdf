// SPDX-License-Identifier: Apache-2.0

//! Applies the steps of CONTRIBUTING.md to a copy of the tree, and runs their commands.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Copies a folder without its build directory and history.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let path = entry.path();
        if path == root().join("target") || name == ".git" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// The fenced blocks of one language, without the indent of their list items.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("   ```{language}\n");
    let blocks = page.split(&start).skip(1).filter_map(|rest| rest.split("   ```").next());
    blocks
        .map(|block| {
            block.lines().map(|line| line.strip_prefix("   ").unwrap_or(line).to_owned() + "\n").collect()
        })
        .collect()
}

/// Runs a program in a folder, with some text as its input.
fn run(mut command: Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

#[test]
fn the_steps_of_contributing_lead_to_a_tree_whose_tests_pass() {
    let page = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contributing");
    let tree = target.join("tree");
    let _absent = fs::remove_dir_all(&tree);
    copy(&root(), &tree);

    let created = page.split("Create `").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    fs::write(tree.join(created), &blocks(&page, "rust")[0]).unwrap();
    let changes = blocks(&page, "diff");
    assert_eq!(changes.len(), 4, "the page promises five files");
    for change in changes {
        let mut apply = Command::new("git");
        apply.args(["apply", "--recount", "--unidiff-zero"]).current_dir(&tree);
        apply.env("GIT_CEILING_DIRECTORIES", &target); // the copy is no part of the repository around it
        run(apply, &change);
    }

    let commands = blocks(&page, "text");
    let commands: Vec<_> = commands.iter().flat_map(|block| block.lines()).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for line in commands {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(&tree).env("CARGO_TARGET_DIR", target.join("build"));
        run(command, "");
    }
}
