// SPDX-License-Identifier: Apache-2.0

//! Draws a part of the lab's output as a picture of a terminal (SVG), for the README.

use std::fmt::Write;

/// Names of the drawn verdicts, in the order of a run.
const DRAWN: [&str; 9] = [
    "the proxy is ready with every load balancer",
    "UDP and TCP over every VIP and target",
    "the client sees the VIP as source",
    "every load balancer carries in both directions",
    "a refresh makes no IPAM call",
    "connections outlive a rotation of every SVID",
    "packets of a removed VIP are dropped, not leaked",
    "nothing leaks while the proxy stops and starts",
    "everything closed leaves nothing",
];

/// Number of characters in a line.
const COLUMNS: usize = 104;

const HEAD: &str = "\
<style>
  rect { fill: #161b22; stroke: #30363d }
  text { font: 13px ui-monospace, Menlo, 'DejaVu Sans Mono', monospace; fill: #e6edf3; white-space: pre }
  .bold { font-weight: bold } .ok { fill: #3fb950 } .FAILED { fill: #f85149 } .dim { fill: #8b949e }
</style>";

/// The picture of an output. Each verdict of [`DRAWN`] is drawn once, with the figures that fit.
pub(super) fn draw(output: &str) -> String {
    let verdicts: Vec<_> = output.lines().filter_map(verdict).collect();
    let shown = DRAWN.iter().filter_map(|name| verdicts.iter().find(|(_, shown, _)| shown == name));
    let mut lines = vec![span("bold", "$ make lab")];
    lines.extend(shown.map(|(state, name, figures)| {
        let room = COLUMNS.saturating_sub(name.chars().count() + 12);
        format!(
            "{}{}{}",
            span(state, &format!("  {state:6}  ")),
            span("name", name),
            span("dim", &cut(figures, room))
        )
    }));
    let total = output.lines().rev().find(|line| line.ends_with(" hold"));
    lines.extend(total.map(|total| format!("{}{}", span("dim", "  …       "), span("bold", total))));
    svg(&lines)
}

/// State, name and figures of a line of the table: `  ok      name  (figures)`.
fn verdict(line: &str) -> Option<(&str, &str, &str)> {
    let (state, rest) = line.strip_prefix("  ")?.split_once("  ")?;
    let rest = rest.trim_start();
    let (name, _) = rest.split_once("  (").unwrap_or((rest, ""));
    matches!(state, "ok" | "FAILED").then_some((state, name, &rest[name.len()..]))
}

fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

fn span(class: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<tspan class=\"{class}\">{text}</tspan>")
}

fn svg(lines: &[String]) -> String {
    let height = 20 * lines.len() + 24;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 {height}\" width=\"860\" height=\"{height}\" role=\"img\">\n\
         <title>Output of make lab</title>\n{HEAD}\n<rect x=\"0.5\" y=\"0.5\" width=\"859\" height=\"{}\" rx=\"6\"/>\n",
        height - 1
    );
    for (line, y) in lines.iter().zip((28..).step_by(20)) {
        let _ = writeln!(svg, "<text x=\"16\" y=\"{y}\" xml:space=\"preserve\">{line}</text>");
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_drawn_with_the_figures_that_fit() {
        let line = format!("  FAILED  {}  (asked 5, answered {})", DRAWN[1], "4".repeat(90));
        let svg = draw(&format!("  ok      {}\n  ok      an <other>\n{line}\n1 of 3 hold\n", DRAWN[0]));
        assert!(svg.contains(">  ok      </tspan>") && svg.contains(">  FAILED  </tspan>"), "{svg}");
        assert!(svg.contains("(asked 5, answered 444") && svg.contains("4…</tspan>"), "{svg}");
        assert!(svg.contains("1 of 3 hold") && !svg.contains("other"), "{svg}");
        assert_eq!(svg.matches("<text ").count(), 4);
    }
}
