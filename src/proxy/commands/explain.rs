// SPDX-License-Identifier: Apache-2.0

//! `proxy explain ADDRESS`: prints the walks of packets from and to an address through the kernel.

use std::{fmt::Write, net::IpAddr, process::ExitCode};

use super::{
    complain, json,
    output::{Colour, Style, printable},
    print,
};
use crate::kernel::{
    self, Ours,
    explain::{Explanation, Outcome, Role, Step, Walk, explain},
};

/// Exit code if packets are dropped.
const DROPPED: u8 = 1;

/// Explains an address in the network namespace of this thread.
pub(super) async fn run(address: IpAddr, as_json: bool) -> ExitCode {
    let ours = Ours::default();
    let view = match kernel::view(&ours).await {
        Ok(view) => view,
        Err(refusal) => return complain(&refusal),
    };
    let explanation = explain(&view, &ours, address);
    let printed = match as_json {
        true => json(&explanation),
        false => print(text(&explanation, Style::of_stdout())),
    };
    if explanation.passes() { printed } else { ExitCode::from(DROPPED) }
}

/// The walks, one step per line.
fn text(explanation: &Explanation, style: Style) -> String {
    let Explanation { address, role, walks } = explanation;
    let role = match role {
        Role::Vip => "a VIP",
        Role::Gateway => "an address of the bridge",
        Role::NextHop => "a next hop: a load balancer",
        Role::InSubnet => "in a subnet of the bridge: a target, or a load balancer that is no next hop",
        Role::Unknown => "neither a VIP nor in a subnet of the bridge",
    };
    let mut text = format!("{address} is {role}\n");
    for walk in walks {
        let _infallible = writeln!(text, "\n{}", walk.title);
        walk.steps.iter().for_each(|step| line(&mut text, "  ", step, style));
        for branch in &walk.branches {
            for (at, step) in branch.steps.iter().enumerate() {
                line(&mut text, if at == 0 { "  - " } else { "    " }, step, style);
            }
        }
        let _infallible = writeln!(text, "  {}", outcome(walk, style));
    }
    text
}

fn line(text: &mut String, indent: &str, step: &Step, style: Style) {
    let width = 18 - indent.len();
    let mut line = format!("{indent}{:<width$}{}", step.kind.name(), printable(&step.object));
    if let Some(note) = &step.note {
        let _infallible = write!(line, "; {note}");
    }
    if let Some(all) = &step.counters {
        let (rx, tx) = (all.rx_packets, all.tx_packets);
        let _infallible = write!(line, "; rx {rx}, tx {tx} packets");
        let lost = [
            ("rx errors", all.rx_errors),
            ("tx errors", all.tx_errors),
            ("rx dropped", all.rx_dropped),
            ("tx dropped", all.tx_dropped),
        ];
        for (kind, count) in lost.into_iter().filter(|(_, count)| *count > 0) {
            let _infallible = write!(line, ", {count} {kind}");
        }
    }
    if let Some(why) = &step.dies {
        let _infallible =
            write!(line, "\n{:18}{}", "", style.paint(Colour::Red, format_args!("dropped: {why}")));
    }
    let _infallible = writeln!(text, "{line}");
}

fn outcome(walk: &Walk, style: Style) -> String {
    match walk.outcome {
        Outcome::Passes if walk.branches.len() < 2 => style.paint(Colour::Green, "passes"),
        Outcome::Passes => {
            style.paint(Colour::Green, format_args!("passes on {0} of {0} ways", walk.branches.len()))
        }
        Outcome::Partly { passing, of } => style.paint(
            Colour::Yellow,
            format_args!("passes on {passing} of {of} ways; flows on the others are dropped"),
        ),
        Outcome::Dies => style.paint(Colour::Red, "is dropped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{
        Statistics,
        explain::{Branch, StepKind},
    };

    fn step(kind: StepKind, object: &str) -> Step {
        Step { kind, object: object.into(), note: None, dies: None, counters: None }
    }

    #[test]
    fn each_step_is_a_line_and_a_drop_has_its_reason() {
        let counters = Some(Statistics { rx_packets: 7, tx_dropped: 2, ..Statistics::default() });
        let dies = Some("nsm-2 is down".to_owned());
        let branch = |dies| Branch {
            steps: vec![
                step(StepKind::NextHop, "172.16.0.2"),
                Step { counters, dies, ..step(StepKind::Port, "nsm-2") },
            ],
        };
        let walk = Walk {
            title: "from 20.0.0.1".into(),
            steps: vec![Step { note: Some("2 ports".into()), ..step(StepKind::Bridge, "bridge0") }],
            branches: vec![branch(None), branch(dies)],
            outcome: Outcome::Partly { passing: 1, of: 2 },
        };
        let address = "20.0.0.1".parse().unwrap();
        let explanation = Explanation { address, role: Role::Vip, walks: vec![walk] };
        let expected = "\
20.0.0.1 is a VIP

from 20.0.0.1
  bridge          bridge0; 2 ports
  - next hop      172.16.0.2
    port          nsm-2; rx 7, tx 0 packets, 2 tx dropped
  - next hop      172.16.0.2
    port          nsm-2; rx 7, tx 0 packets, 2 tx dropped
                  dropped: nsm-2 is down
  passes on 1 of 2 ways; flows on the others are dropped
";
        assert_eq!(text(&explanation, Style::PLAIN), expected);
    }
}
