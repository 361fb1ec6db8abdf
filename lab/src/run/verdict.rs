// SPDX-License-Identifier: Apache-2.0
//! Collects the results of the lab: one verdict per promise, with the figures on which it is based.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

use super::columns::Columns;

/// Whether one promise held.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct Verdict {
    /// The promise, as a short sentence.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// The counted or measured figures.
    pub figures: BTreeMap<String, Value>,
}

impl Verdict {
    /// A verdict without figures yet.
    pub fn new(name: impl Into<String>, ok: bool) -> Self {
        Self { name: name.into(), ok, figures: BTreeMap::new() }
    }

    /// Adds a figure.
    #[must_use]
    pub fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }
}

/// All verdicts of a run. `Display` prints a table.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
pub struct Report {
    ok: bool,
    verdicts: Vec<Verdict>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    /// The verdicts of another program in the same steps. They do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other: Vec<Verdict>,
}

impl Report {
    /// Adds a verdict.
    pub fn add(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
        self.ok = self.verdicts.iter().all(|verdict| verdict.ok);
    }

    /// Adds the verdicts of a later run.
    pub fn append(&mut self, later: Self) {
        later.verdicts.into_iter().for_each(|verdict| self.add(verdict));
        self.left_out.extend(later.left_out);
    }

    /// Adds the verdicts of another program in the same steps beside these. They do not count.
    pub fn compare(&mut self, other: Self) {
        self.other = other.verdicts;
    }

    /// Names something that this run does not judge.
    pub fn leave_out(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }

    /// Whether there are verdicts and every one is true.
    pub fn ok(&self) -> bool {
        self.ok
    }

    /// The report as one line of JSON.
    ///
    /// # Errors
    /// A figure is not a finite number.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", if self.ok { "ok    " } else { "FAILED" }, self.name)?;
        let figures = list(&self.figures);
        if figures.is_empty() { Ok(()) } else { write!(f, "  ({figures})") }
    }
}

/// Figures in one line. Those of an object are in brackets behind its name.
fn list<'a>(figures: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let figures = figures.into_iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        Value::Object(figures) => format!("{name} [{}]", list(figures)),
        Value::Null => format!("{name} never"),
        other => format!("{name} {other}"),
    });
    figures.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for verdict in &self.verdicts {
            writeln!(f, "  {verdict}")?;
        }
        if !self.other.is_empty() {
            write!(f, "\n{}\n", Columns { ours: &self.verdicts, other: &self.other })?;
        }
        for what in &self.left_out {
            writeln!(f, "  left out  {what}")?;
        }
        let held = self.verdicts.iter().filter(|verdict| verdict.ok).count();
        write!(f, "{held} of {} hold", self.verdicts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_true_only_if_it_has_verdicts_and_all_are() {
        let mut report = Report::default();
        assert!(!report.ok(), "an empty report proves nothing");
        report.add(Verdict::new("packets come back", true).figure("sent", 7).figure("by", "t1 t2"));
        assert!(report.ok());
        assert_eq!(
            report.json().unwrap(),
            r#"{"ok":true,"verdicts":[{"name":"packets come back","ok":true,"figures":{"by":"t1 t2","sent":7}}]}"#
        );
        report.add(Verdict::new("nothing leaks", false));
        assert!(!report.ok());
        report.add(Verdict::new("nothing is left", true));
        assert!(!report.ok());
        assert_eq!(
            report.to_string(),
            "  ok      packets come back  (by t1 t2, sent 7)\n  FAILED  nothing leaks\n  ok      nothing is left\n2 of 3 hold"
        );
    }

    #[test]
    fn verdicts_left_out_are_named_and_do_not_count() {
        let mut report = Report::default();
        report.leave_out("what nobody may see");
        assert!(!report.ok());
        report.add(Verdict::new("packets come back", true));
        assert_eq!(
            report.to_string(),
            "  ok      packets come back\n  left out  what nobody may see\n1 of 1 hold"
        );
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["left_out"][0], "what nobody may see");
    }
}
