// SPDX-License-Identifier: Apache-2.0
//! Prints the verdicts of two programs side by side.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::verdict::Verdict;

/// Widths of the columns with a promise or figure, and with the first program's figures.
const WIDTHS: (usize, usize) = (72, 44);

/// The verdicts of two programs in the same steps. `Display` prints a table.
pub(super) struct Columns<'a> {
    /// Those of the proxy.
    pub(super) ours: &'a [Verdict],
    /// Those of the other program.
    pub(super) other: &'a [Verdict],
}

impl Columns<'_> {
    /// Each verdict of the proxy with that of the other program under the same name, in order; then
    /// those that only the other one has.
    fn pairs(&self) -> Vec<(Option<&Verdict>, Option<&Verdict>)> {
        let mut left: Vec<&Verdict> = self.other.iter().collect();
        let mut pairs = Vec::new();
        for ours in self.ours {
            let same = left.iter().position(|other| other.name == ours.name);
            pairs.push((Some(ours), same.map(|same| left.remove(same))));
        }
        pairs.extend(left.into_iter().map(|other| (None, Some(other))));
        pairs
    }
}

fn outcome(verdict: Option<&Verdict>) -> &'static str {
    verdict.map_or("-", |verdict| if verdict.ok { "ok" } else { "FAILED" })
}

/// A figure in a cell. That of a direction in a few words.
fn cell(value: Option<&Value>) -> String {
    match value {
        None => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(loss)) => {
            let number = |name: &str| loss.get(name).and_then(Value::as_u64);
            let whole =
                number("whole again ms").map_or("never whole".into(), |ms| format!("whole after {ms} ms"));
            let [lost, of, gap] =
                ["lost", "datagrams", "longest gap ms"].map(|name| number(name).unwrap_or_default());
            format!("{lost} of {of} lost, gap {gap} ms, {whole}")
        }
        Some(other) => other.to_string(),
    }
}

impl fmt::Display for Columns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = WIDTHS;
        writeln!(f, "  {:<first$}  {:<second$}  other program", "", "proxy")?;
        for (ours, other) in self.pairs() {
            let name = ours.or(other).map_or("", |verdict| verdict.name.as_str());
            writeln!(f, "  {name:<first$}  {:<second$}  {}", outcome(ours), outcome(other))?;
            let names: BTreeSet<_> =
                [ours, other].into_iter().flatten().flat_map(|v| v.figures.keys()).collect();
            for name in names.into_iter().filter(|name| *name != "fault") {
                let figure =
                    |verdict: Option<&Verdict>| cell(verdict.and_then(|verdict| verdict.figures.get(name)));
                let indented = format!("    {name}");
                writeln!(f, "  {indented:<first$}  {:<second$}  {}", figure(ours), figure(other))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_programs_are_printed_beside_each_other() {
        let loss = json!({"datagrams": 9, "lost": 1, "longest gap ms": 10, "whole again ms": 20});
        let never = json!({"datagrams": 9, "lost": 9, "longest gap ms": 90, "whole again ms": null});
        let ours = [Verdict::new("a", true).figure("egress", loss), Verdict::new("b", true)];
        let other = [Verdict::new("a", false).figure("egress", never), Verdict::new("c", true)];
        let table = Columns { ours: &ours, other: &other }.to_string();
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(
            rows,
            [
                vec!["proxy", "other program"],
                vec!["a", "ok", "FAILED"],
                vec![
                    "egress",
                    "1 of 9 lost, gap 10 ms, whole after 20 ms",
                    "9 of 9 lost, gap 90 ms, never whole"
                ],
                vec!["b", "ok", "-"],
                vec!["c", "-", "ok"],
            ]
        );
    }
}
