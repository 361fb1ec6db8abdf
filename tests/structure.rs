// SPDX-License-Identifier: Apache-2.0

//! Checks the rules of the source tree, and the statements of the documents about it.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Floors from low to high. A file imports from its own folder and from lower floors.
const FLOORS: [(&str, usize); 13] = [
    ("api", 0),
    ("task", 0),
    ("chain", 1),
    ("transport", 2),
    ("kernel", 2),
    ("ipam", 2),
    ("server", 3),
    ("registry", 3),
    ("elements", 4),
    ("chains", 5),
    ("app", 6),
    ("proxy", 7),
    ("testing", 8),
];

/// Rooms of `lab/src`, and its single files, in the same format.
const ROOMS: [(&str, usize); 13] = [
    ("error", 0),
    ("svg", 0),
    ("topology", 0),
    ("eventually", 1),
    ("network", 1),
    ("pods", 2),
    ("traffic", 2),
    ("identity", 3),
    ("control_plane", 4),
    ("world", 5),
    ("run", 6),
    ("enter", 6),
    ("program", 7),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with one of the extensions, as paths relative to the repository.
fn files(below: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no file below {below}");
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The code of a file without comments and without its test module; empty for a file that holds
/// only tests.
fn product_code(path: &Path) -> String {
    let test = ["tests.rs", "testing.rs", "given.rs", "twin.rs", "contract.rs"];
    let only_tests = path.iter().any(|part| part == "tests" || test.iter().any(|name| part == *name));
    if only_tests && (path.starts_with("src") || path.starts_with("lab/src")) {
        return String::new();
    }
    let text = read(path);
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that code names behind a prefix: `crate::kernel::…`, and each of a `{…}` group right
/// behind `crate::`.
fn imports(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && depth == 0 && !c.is_whitespace() => {
                    found.insert(word(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Compares the imports of each file below a folder, behind a prefix, with the floors of the
/// folder's contents.
fn keep_to_floors(below: &str, prefix: &str, floors: &[(&str, usize)]) {
    let floor_of = |name: &str| floors.iter().find(|(other, _)| *other == name).map(|(_, floor)| *floor);
    let mut wrong = Vec::new();
    for file in files(below, &["rs"]) {
        let inside = file.strip_prefix(below).unwrap();
        let name = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        let Some(floor) = floor_of(&name) else { continue };
        let code = product_code(&file);
        let mut others = imports(&code, prefix);
        // In these files `super` is the folder itself.
        if inside.components().count() == 1 || inside == Path::new(&name).join("mod.rs") {
            others.extend(imports(&code, "super::"));
        }
        for other in others {
            if other != name && floor_of(&other).is_some_and(|other| other >= floor) {
                wrong.push(format!("{}: `{name}` must not import `{other}`", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "floors are {floors:?}:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_imports_from_its_own_floor_and_below() {
    keep_to_floors("src", "crate::", &FLOORS);
    keep_to_floors("lab/src", "crate::", &ROOMS);
}

#[test]
fn every_room_of_the_lab_has_its_floor() {
    let there = fs::read_dir(root().join("lab/src")).unwrap().map(|entry| entry.unwrap().file_name());
    let there = there.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned());
    let there: BTreeSet<_> =
        there.filter(|name| !["lib", "main", "tests"].contains(&name.as_str())).collect();
    assert_eq!(there, ROOMS.map(|(name, _)| name.to_owned()).into());
}

#[test]
fn an_element_never_imports_another_element() {
    let mut wrong = Vec::new();
    for file in files("src/elements", &["rs"]) {
        let own = file.iter().nth(2).unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if own == "mod" {
            continue;
        }
        let code = product_code(&file);
        for (at, _) in code.match_indices("elements::") {
            let rest = &code[at + "elements::".len()..];
            if !rest.starts_with(&own) {
                let line = rest.lines().next().unwrap_or_default();
                wrong.push(format!("{}: elements::{line}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "an element imports another:\n{}", wrong.join("\n"));
}

/// The strings between `from` and `to` in every occurrence in a text.
fn strings_between<'a>(text: &'a str, from: &'a str, to: char) -> impl Iterator<Item = &'a str> {
    let found = text.split(from).skip(1).filter_map(move |rest| rest.split_once(to));
    found.flat_map(|(within, _)| within.split('"').skip(1).step_by(2))
}

#[test]
fn an_order_names_rows_that_exist() {
    for folders in [&["src/chain", "src/elements"][..], &["src/chain", "src/elements", "lab/src"]] {
        let code: Vec<_> = folders.iter().flat_map(|folder| files(folder, &["rs"])).collect();
        let code: Vec<_> = code.iter().map(|file| (file, product_code(file))).collect();
        let names =
            code.iter().flat_map(|(_, code)| strings_between(code, "const NAME: &'static str =", ';'));
        let names: BTreeSet<_> = names.collect();
        let ordered = code.iter().flat_map(|(file, code)| {
            strings_between(code, "const ORDER: Order =", ';').map(move |name| (file.display(), name))
        });
        let ordered: Vec<_> = ordered.collect();
        assert!(ordered.len() > 20, "orders are found: {}", ordered.len());
        let unknown: Vec<_> = ordered.iter().filter(|(_, name)| !names.contains(name)).collect();
        let unknown: Vec<_> = unknown.iter().map(|(file, name)| format!("{file}: `{name}`")).collect();
        assert!(unknown.is_empty(), "no row has the name:\n{}", unknown.join("\n"));
    }
}

#[test]
fn every_element_and_service_is_held_to_the_laws() {
    let mut wrong = Vec::new();
    let mut rows = BTreeMap::<PathBuf, (usize, usize)>::new();
    for file in files("src", &["rs"]).into_iter().chain(files("lab/src", &["rs"])) {
        let code = product_code(&file);
        let text = read(&file);
        let mut written = code.matches(" Element for ").count();
        // A folder of `src/elements` is one row; elsewhere a file is, with its tests beside it.
        let row = if file.starts_with("src/elements") {
            written += code.matches("Service<Call> for ").count();
            file.iter().take(3).collect()
        } else {
            let tests = file.ends_with("tests.rs");
            if tests { file.with_file_name("mod.rs") } else { file }
        };
        let sum = rows.entry(row).or_default();
        *sum = (sum.0 + written, sum.1 + text.matches("laws::check").count());
    }
    rows.retain(|_, (written, _)| *written > 0);
    assert!(rows.len() >= 20, "only {} rows were read", rows.len());
    for (row, (written, checked)) in rows {
        if checked < written {
            wrong.push(format!("{}: {written} rows, {checked} checks of the laws", row.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Types that a user touches first, beside the elements: each has an example, too.
const FIRST: [(&str, &str); 22] = [
    ("src/app/client/mod.rs", "struct Client"),
    ("src/app/client/link.rs", "struct Link"),
    ("src/app/endpoint/mod.rs", "struct Endpoint"),
    ("src/app/program/mod.rs", "struct App"),
    ("src/app/server/mod.rs", "struct Server"),
    ("src/chain/begin/event.rs", "struct Events"),
    ("src/chain/begin/mod.rs", "struct BeginLayer"),
    ("src/chain/builder.rs", "struct Chain"),
    ("src/chain/call.rs", "enum Call"),
    ("src/chain/call.rs", "struct Close"),
    ("src/chain/call.rs", "struct Request"),
    ("src/chain/element.rs", "trait Element"),
    ("src/chain/error.rs", "struct Error"),
    ("src/chain/metadata.rs", "struct MetadataLayer"),
    ("src/chain/observe.rs", "trait Observer"),
    ("src/chain/order.rs", "struct Order"),
    ("src/chain/row.rs", "trait Row"),
    ("src/chain/scope.rs", "struct Scope"),
    ("src/elements/connect/mod.rs", "struct Connect"),
    ("src/server/endpoint.rs", "struct Endpoint"),
    ("src/transport/dial/dialer.rs", "struct Dialer"),
    ("src/transport/identity/mod.rs", "struct Identity"),
];

/// Whether the documentation of a public item of a file has a listing. The lines above the item,
/// up to an empty one, are its attributes and its documentation.
fn has_example(text: &str, item: &str) -> bool {
    let found = text.lines().position(|line| {
        let name = line.strip_prefix("pub ").and_then(|line| line.strip_prefix(item));
        name.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    let above: Vec<_> = text.lines().take(found.unwrap_or_else(|| panic!("no public {item}"))).collect();
    above.iter().rev().take_while(|line| !line.is_empty()).any(|line| line.starts_with("/// ```"))
}

#[test]
fn every_element_and_every_first_type_has_an_example() {
    let mut wrong = Vec::new();
    let mut elements = 0;
    for file in files("src/elements", &["rs"]) {
        let text = read(&file);
        for rest in product_code(&file).split("Element for ").skip(1) {
            let name = rest.split([' ', '<']).next().unwrap_or_default();
            elements += 1;
            if !has_example(&text, &format!("struct {name}")) {
                wrong.push(format!("{}: {name}", file.display()));
            }
        }
    }
    assert!(elements >= 25, "only {elements} elements were read");
    let first = FIRST.iter().filter(|(file, item)| !has_example(&read(file), item));
    wrong.extend(first.map(|(file, item)| format!("{file}: {item}")));
    assert!(wrong.is_empty(), "without an example in their documentation:\n{}", wrong.join("\n"));
}

#[test]
fn environment_and_netlink_are_used_in_one_place_each() {
    let mut wrong = Vec::new();
    for file in files("src", &["rs"]) {
        let name = file.display().to_string();
        let code = product_code(&file);
        if !name.starts_with("src/bin/")
            && code.contains("env::var")
            && !["src/app/config", "src/proxy/config"].iter().any(|place| name.starts_with(place))
        {
            wrong
                .push(format!("{name}: reads the environment (only src/app/config and src/proxy/config do)"));
        }
        if code.contains("rtnetlink::")
            && !name.starts_with("src/kernel/")
            && !name.starts_with("src/testing/")
        {
            wrong.push(format!("{name}: speaks netlink (only src/kernel and src/testing do)"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_file_has_its_licence_and_no_open_end() {
    let mut wrong = Vec::new();
    for folder in ["src", "lab", "tests", "examples", "benches"] {
        for file in files(folder, &["rs", "go"]) {
            let text = read(&file);
            if !text.starts_with("// SPDX-License-Identifier: Apache-2.0") {
                wrong.push(format!("{}: no SPDX line", file.display()));
            }
            for word in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("unim", "plemented!"),
                concat!("#[ig", "nore"),
            ] {
                if text.contains(word) {
                    wrong.push(format!("{}: contains {word}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_module_with_a_folder_has_its_text_in_mod_rs() {
    let apart: Vec<_> =
        ["src", "lab/src", "lab/tests", "lab/benches", "benches", "tests/interop", "tests/rows"]
            .into_iter()
            .flat_map(|folder| files(folder, &["rs"]))
            .filter(|file| root().join(file.with_extension("")).is_dir())
            .collect();
    assert!(apart.is_empty(), "to be moved to mod.rs in the folder of the same name: {apart:?}");
}

#[test]
fn a_local_closure_has_two_uses_or_is_the_value() {
    let mut found = Vec::new();
    for file in ["src", "lab/src", "examples"].into_iter().flat_map(|folder| files(folder, &["rs"])) {
        let names = closures_with_one_use(&product_code(&file));
        found.extend(names.iter().map(|name| format!("{}: `{name}`", file.display())));
    }
    assert!(found.is_empty(), "to be written where they are used, or as functions:\n{}", found.join("\n"));
}

#[test]
fn closures_with_one_use_are_found() {
    let code = |rest: &str| format!("fn f() {{\n    let twice = |x| x + 1;\n{rest}\n}}\n");
    #[rustfmt::skip]
    let table = [
        ("    twice(twice(1))", None),
        ("    twice", None),
        ("    all.map(twice)", Some("twice")),
        ("    all.twice(1)", Some("twice")),
        ("    twice(twice(1));\n    let other =\n        async move |x: u8| {\n            twice(x);\n        };\n    other(1)", Some("other")),
        ("    let none = twice(twice(1));\n    none", None),
    ];
    for (rest, expected) in table {
        assert_eq!(closures_with_one_use(&code(rest)).first().map(String::as_str), expected, "{rest}");
    }
}

/// The names of closures, `let name = |..| ..;`, that the code behind them uses once or never. A
/// closure is the value of its block if its name is the last line. The ends of a statement and of a
/// scope are where rustfmt puts them.
fn closures_with_one_use(code: &str) -> Vec<String> {
    let lines: Vec<&str> = code.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, value)) =
            line.trim_start().strip_prefix("let ").and_then(|rest| rest.split_once(" ="))
        else {
            continue;
        };
        let name = name.trim_start_matches("mut ").split(':').next().unwrap_or_default();
        let next = if value.is_empty() { lines.get(at + 1).copied().unwrap_or_default() } else { value };
        if !next.trim_start().trim_start_matches("async ").trim_start_matches("move ").starts_with('|') {
            continue;
        }
        let last = indent(line) + if value.is_empty() { 4 } else { 0 };
        let inside = lines[at..].iter().take_while(|end| !end.ends_with(';') || indent(end) > last);
        let statement = inside.count() + 1;
        let scope = lines.iter().skip(at + statement);
        let scope: Vec<_> =
            scope.take_while(|next| next.trim().is_empty() || indent(next) >= indent(line)).collect();
        let uses: usize = scope.iter().map(|line| uses(line, name)).sum();
        if uses < 2 && !scope.iter().any(|line| line.trim() == name) {
            found.push(name.to_owned());
        }
    }
    found
}

/// How often a line uses a variable. A method or a field of its name is none.
fn uses(line: &str, name: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let all = line.match_indices(name).filter(|(at, _)| {
        let before = line[..*at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(|c| word(c) || c == '.') && !after.is_some_and(|c| word(c) || c == ':')
    });
    all.count()
}

/// An item is a module, type, trait, function, constant or re-export that a user names by its path;
/// one with two paths counts twice. Methods, fields, variants and generated messages do not count.
#[test]
fn the_public_items_of_the_library_are_few() {
    let list = read("docs/public-api.txt");
    let kinds =
        ["mod", "struct", "enum", "union", "trait", "type", "fn", "const", "static", "macro", "use", "async"];
    let mut items = BTreeSet::new();
    for line in list.lines() {
        let words: Vec<_> = line.split(' ').skip_while(|word| *word != "pub").collect();
        let named = words.iter().skip(1).find(|word| **word == "nsm" || word.contains("::"));
        let Some(path) = named.filter(|word| word.starts_with("nsm")) else { continue };
        let is_item = words.get(1).is_some_and(|word| kinds.contains(word));
        let path = path.split(['(', '<', '{']).next().unwrap_or_default().trim_end_matches(':');
        let parents = path.rsplit_once("::").map_or("", |(parents, _)| parents);
        if is_item && !parents.contains(char::is_uppercase) {
            items.insert(path);
        }
    }
    assert!(items.contains("nsm::chain::Chain"), "the list has no chain: {items:?}");
    assert!(items.len() <= 450, "{} public items", items.len());
}

/// A promise of SPECIFICATION.md: its number, its text, and the test that holds it or `pending`.
struct Promise {
    number: String,
    proof: String,
}

/// The tests among `file#test, file#test` that are not in the tree.
fn missing(proof: &str) -> impl Iterator<Item = String> {
    proof.split(',').map(|one| one.trim().trim_matches('`')).filter_map(|one| {
        let Some((file, name)) = one.split_once('#') else {
            return Some(format!("`{one}` is not `file#test`"));
        };
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            return Some(format!("no file {file}"));
        };
        let written = [format!("fn {name}("), format!("func {name}("), format!("\"{name}\"")];
        let found = written.iter().any(|one| text.contains(one));
        (!found).then(|| format!("{file} has no test or verdict `{name}`"))
    })
}

fn promises() -> Vec<Promise> {
    let text = read("SPECIFICATION.md");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let number =
            cells.first().filter(|n| n.contains('.') && n.starts_with(|c: char| c.is_ascii_digit()))?;
        Some(Promise { number: (*number).to_owned(), proof: (*cells.last()?).to_owned() })
    });
    rows.collect()
}

#[test]
fn every_promise_names_a_test_that_exists_or_says_pending() {
    let promises = promises();
    assert!(promises.len() >= 40, "only {} promises were read", promises.len());
    let mut wrong = Vec::new();
    let mut numbers = BTreeSet::new();
    for Promise { number, proof } in &promises {
        if !numbers.insert(number) {
            wrong.push(format!("{number}: used twice"));
        }
        if proof == "*pending*" {
            continue;
        }
        wrong.extend(missing(proof).map(|gap| format!("{number}: {gap}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rows of docs/compatibility.md: code or number of an issue, state, and the tests that hold it.
fn behaviours() -> Vec<[String; 3]> {
    let text = read("docs/compatibility.md");
    let rows = text.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect());
    let rows = rows.filter_map(|cells: Vec<_>| {
        let [code, _, state, _, proof] = cells[..] else { return None };
        code.contains(|c: char| c.is_ascii_digit()).then(|| [code, state, proof].map(str::to_owned))
    });
    rows.collect()
}

#[test]
fn every_row_of_the_compatibility_page_names_its_test() {
    let rows = behaviours();
    assert!(rows.len() >= 100, "only {} rows were read", rows.len());
    let mut wrong = Vec::new();
    let mut codes = BTreeSet::new();
    for [code, state, proof] in &rows {
        if !codes.insert(code) {
            wrong.push(format!("{code}: used twice"));
        }
        match (state.as_str(), proof.as_str()) {
            ("dropped" | "not built", "-") => {}
            ("kept" | "repaired" | "held" | "in part", _) => {
                wrong.extend(missing(proof).map(|gap| format!("{code}: {gap}")));
            }
            _ => wrong.push(format!("{code}: state `{state}`, held by `{proof}`")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The codes at the beginning of a test's name: B16 of `b16_a_name`, L12 and G21 of
/// `l12_g21_a_name`.
fn codes(name: &str) -> impl Iterator<Item = String> {
    name.split('_').map_while(|part| {
        let (letter, digits) = part.split_at_checked(1)?;
        let number = digits.parse::<u8>().ok().filter(|_| digits.len() == 2)?;
        ["b", "e", "g", "l"].contains(&letter).then(|| format!("{}{number}", letter.to_uppercase()))
    })
}

#[test]
fn every_code_in_a_test_name_is_on_the_compatibility_page() {
    let listed: BTreeSet<_> = behaviours().into_iter().map(|[code, ..]| code).collect();
    let mut wrong = Vec::new();
    for file in ["src", "tests", "lab"].into_iter().flat_map(|folder| files(folder, &["rs"])) {
        for function in read(&file).split("fn ").skip(1) {
            let name = function.split('(').next().unwrap_or_default();
            let unknown = codes(name).filter(|code| !listed.contains(code));
            wrong.extend(unknown.map(|code| format!("{}: `{name}`: no {code}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_picture_of_the_lab_shows_verdicts_that_it_has() {
    let picture = read("docs/pictures/lab.svg");
    let names = picture.split("<tspan class=\"name\">").skip(1).filter_map(|rest| rest.split('<').next());
    let names: BTreeSet<_> = names.collect();
    let code: String = files("lab/src/run", &["rs"]).iter().map(read).collect();
    let unknown: Vec<_> = names.iter().filter(|name| !code.contains(&format!("\"{name}\""))).collect();
    assert!(unknown.is_empty(), "run `make pictures`: the lab has no verdicts {unknown:?}");
    let drawn = read("lab/src/svg.rs");
    let missing: Vec<_> = names.iter().filter(|name| !drawn.contains(&format!("\"{name}\""))).collect();
    assert!(missing.is_empty() && names.len() == 9, "run `make pictures`: {missing:?} are not drawn");
}

/// A row that is not drawn is no fault, so that a new row needs no new picture.
#[test]
fn the_picture_of_a_request_has_rows_of_the_endpoint_chain() {
    let picture = read("docs/pictures/request.svg");
    let drawn = picture.split("class=\"row ").skip(1).filter_map(|rest| rest.split(['>', '<']).nth(1));
    let rows = read("tests/rows/endpoint.rs");
    let mut rows = rows.split("\n    (\"").skip(1).filter_map(|rest| rest.split('"').next());
    let unknown: Vec<_> = drawn.filter(|name| !rows.any(|row| row == *name)).collect();
    assert!(unknown.is_empty(), "docs/pictures/request.svg: no rows {unknown:?} in this order");
}

/// The documents of the repository.
fn documents() -> Vec<PathBuf> {
    let top = fs::read_dir(root()).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let top = top.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let below = ["docs", "proto", "tests"].into_iter().flat_map(|folder| files(folder, &["md"]));
    top.chain(below).collect()
}

/// The text of a document without its code.
fn prose(path: &Path) -> String {
    let text = read(path);
    let mut code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    });
    let lines = lines.map(|line| line.split('`').step_by(2).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, as GitHub writes them.
fn anchors(path: &Path) -> BTreeSet<String> {
    let text = read(path);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|heading| anchor(heading.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || ['-', '_', ' '].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in documents() {
        let prose = prose(&document);
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                _ => document.with_file_name("").join(path),
            };
            let exists = root().join(&target).exists();
            if !exists || !anchor.is_empty() && !anchors(&target).contains(anchor) {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(count >= 40, "only {count} links were read");
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_of_the_book_is_in_its_summary() {
    let summary = prose(Path::new("docs/SUMMARY.md"));
    for page in files("docs", &["md"]) {
        let name = page.strip_prefix("docs").unwrap().display().to_string();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "SUMMARY.md lacks {name}");
    }
}

#[test]
fn every_listing_of_a_document_is_compiled() {
    let guides = read("src/lib.rs");
    for document in documents() {
        let text = read(&document);
        let name = document.display();
        assert!(!text.contains("```rust,"), "{name}: a listing is excepted from the tests");
        let compiled = guides.contains(&format!("include_str!(\"../{name}\")"));
        let tried = name.to_string() == "CONTRIBUTING.md"; // its listings are of files in the tree
        assert!(compiled || tried || !text.contains("```rust"), "src/lib.rs lacks {name}");
    }
}

#[test]
fn comments_end_at_column_100() {
    let mut wrong = Vec::new();
    for file in ["src", "tests", "lab", "examples", "benches"].into_iter().flat_map(|d| files(d, &["rs"])) {
        let text = read(&file);
        let mut listing = false;
        for (at, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            let comment = comment.trim_start_matches(['/', '!']).trim_start();
            listing ^= comment.starts_with("```");
            // A line of a table or of a listing cannot be wrapped.
            if line.chars().count() > 100 && !listing && !comment.starts_with('|') {
                wrong.push(format!("{}:{}", file.display(), at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "comments beyond column 100:\n{}", wrong.join("\n"));
}

#[test]
fn the_configuration_page_has_every_variable() {
    let page = read("docs/configuration.md");
    let missing = nsm::proxy::config::VARIABLES.iter().filter_map(|variable| {
        let alias = variable.alias.map(|alias| format!(", `{alias}`")).unwrap_or_default();
        let default =
            if variable.default.is_empty() { String::new() } else { format!("`{}`", variable.default) };
        let meaning = variable.meaning.replace('<', "&lt;").replace('>', "&gt;");
        let row = format!("| `{}`{alias} | {default} | {meaning} |", variable.name);
        (!page.contains(&row)).then_some(row)
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks:\n{}", missing.join("\n"));
}

#[test]
fn the_configuration_page_has_no_other_variable() {
    let rows = read("docs/configuration.md").lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, nsm::proxy::config::VARIABLES.len());
}

#[test]
fn the_readme_has_every_example() {
    let readme = read("README.md");
    for example in files("examples", &["rs"]) {
        // An example is a file, or a folder of files.
        let name = Path::new(example.components().nth(1).unwrap().as_os_str()).file_stem().unwrap();
        let name = name.to_string_lossy();
        assert!(readme.contains(&format!("`{name}`")), "README.md lacks the example `{name}`");
    }
}
