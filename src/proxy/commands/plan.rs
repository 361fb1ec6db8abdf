// SPDX-License-Identifier: Apache-2.0

//! `proxy plan`: the differences between the desired and the observed state of the kernel.

use std::fmt::Write;

use serde_json::json;

use super::{output::printable, read::Report};
use crate::proxy::state::Document;

/// Exit code if the states differ.
const DIFFERS: u8 = 2;

/// The differences, one per line.
pub(super) fn answer(document: &Document) -> Report {
    let Some(kernel) = &document.kernel else {
        let step = document.start.step.as_deref().unwrap_or("the kernel is not read yet");
        let text = format!("nothing is declared yet: {}\n", printable(step));
        return Report { text, json: json!({"known": false, "waits": step}), code: DIFFERS };
    };
    let differs = !kernel.difference.is_empty() || !kernel.failures.is_empty();
    let json = json!({
        "known": true,
        "difference": kernel.difference,
        "failures": kernel.failures,
        "orphans": kernel.orphans,
        "passes": kernel.passes,
    });
    let mut text = String::new();
    // Writing to a String cannot fail.
    if !differs {
        let _infallible = writeln!(text, "nothing to do: the kernel is as declared (pass {})", kernel.passes);
    }
    for line in &kernel.difference {
        let _infallible = writeln!(text, "~ {}", printable(line));
    }
    for line in &kernel.failures {
        let _infallible = writeln!(text, "! {}", printable(line));
    }
    for link in &kernel.orphans {
        let _infallible = writeln!(
            text,
            "  {}: a port of an earlier process, kept until it has a successor",
            printable(link)
        );
    }
    Report { text, json, code: if differs { DIFFERS } else { 0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::commands::sample;

    #[test]
    fn a_difference_exits_with_2_and_is_listed() {
        let mut document = sample::well();
        let answer = answer(&document);
        assert_eq!((answer.code, &*answer.text), (0, "nothing to do: the kernel is as declared (pass 7)\n"));
        let kernel = document.kernel.as_mut().unwrap();
        kernel.difference.push("load balancer lb-1: link nsm-1 does not exist".into());
        kernel.failures.push("rule: File exists\n".into());
        let answer = super::answer(&document);
        assert_eq!(answer.code, 2);
        assert_eq!(
            answer.text,
            "~ load balancer lb-1: link nsm-1 does not exist\n! rule: File exists\u{fffd}\n"
        );
        assert_eq!(answer.json["difference"][0], "load balancer lb-1: link nsm-1 does not exist");
        document.kernel = None;
        assert_eq!(super::answer(&document).code, 2);
    }
}
