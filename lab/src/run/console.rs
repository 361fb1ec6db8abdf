// SPDX-License-Identifier: Apache-2.0
//! The console of the lab: reads commands, one per line, and performs them on a world that runs.

use std::{
    io::{self, Write},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, sync::mpsc};

use super::{Run, faults::Act};
use crate::{
    error::{Doing, LabError},
    topology,
    world::{World, components::Component, mishaps::Mishap},
};
use nsm::chain::causes;

/// Shown when the next command is expected.
const PROMPT: &str = "lab> ";

/// Lifetime of an SVID that expires soon.
const SECONDS: Duration = Duration::from_secs(3);

const HELP: &str = "\
proxy COMMAND                          a command of the proxy, in its pod
stop | start COMPONENT                 ipam, nsp, nsmgr, forwarder, spire or proxy
hang | kill | return LB                a load balancer, such as lb1
expire                                 the next SVID of the proxy is valid for seconds
rotate                                 the next SVID of the proxy is valid for an hour
COMMAND                                any other command, such as `ip`, in the network namespace of the proxy
Ctrl-D                                 end the lab
";

/// A line of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Nothing,
    Help,
    Proxy(String),
    Act(Act),
    Expire,
    Rotate,
    Other(Vec<String>),
}

impl Run {
    /// Performs the commands of the lines until they end, and prints their output. A command that
    /// cannot be performed prints the reason.
    ///
    /// # Errors
    /// The output cannot be written.
    pub async fn console(&mut self, mut lines: mpsc::Receiver<String>) -> Result<(), LabError> {
        print(PROMPT)?;
        while let Some(line) = lines.recv().await {
            let output = match parse(&line) {
                Ok(line) => perform(&mut self.world, line)
                    .await
                    .unwrap_or_else(|error| format!("lab: {}\n", causes(&error))),
                Err(error) => format!("lab: {error}\n"),
            };
            print(&output)?;
            print(PROMPT)?;
        }
        Ok(())
    }
}

fn print(text: &str) -> Result<(), LabError> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).doing(|| "write to the console".into())
}

fn parse(line: &str) -> Result<Line, String> {
    let words: Vec<_> = line.split_whitespace().collect();
    Ok(match words[..] {
        [] => Line::Nothing,
        ["help"] => Line::Help,
        ["proxy", ref rest @ ..] => Line::Proxy(rest.join(" ")),
        ["stop", "proxy"] => Line::Act(Act::KillProxy),
        ["start", "proxy"] => Line::Act(Act::StartProxy),
        ["stop", name] => Line::Act(Act::Kill(component(name)?)),
        ["start", name] => Line::Act(Act::Start(component(name)?)),
        ["hang", name] => Line::Act(Act::LoseLb(load_balancer(name)?, Mishap::Hangs)),
        ["kill", name] => Line::Act(Act::LoseLb(load_balancer(name)?, Mishap::Silent)),
        ["return", name] => Line::Act(Act::ReturnLb(load_balancer(name)?)),
        ["expire"] => Line::Expire,
        ["rotate"] => Line::Rotate,
        ref words => Line::Other(words.iter().map(ToString::to_string).collect()),
    })
}

fn component(name: &str) -> Result<Component, String> {
    Ok(match name {
        "ipam" => Component::Ipam,
        "nsp" => Component::Nsp,
        "nsmgr" => Component::Nsmgr,
        "forwarder" => Component::Forwarder,
        "spire" => Component::WorkloadApi,
        other => {
            return Err(format!(
                "`{other}` is no component (accepted: ipam, nsp, nsmgr, forwarder, spire, proxy)"
            ));
        }
    })
}

/// The number of a load balancer, from 0.
fn load_balancer(name: &str) -> Result<usize, String> {
    let number = name.strip_prefix("lb").and_then(|number| number.parse::<usize>().ok());
    let number = number.and_then(|number| number.checked_sub(1));
    number.ok_or_else(|| format!("`{name}` is no load balancer (accepted: lb1, lb2 and so on)"))
}

async fn perform(world: &mut World, line: Line) -> Result<String, LabError> {
    match line {
        Line::Nothing => {}
        Line::Help => return Ok(HELP.to_owned()),
        Line::Proxy(command) => {
            let output = world.ask_proxy(&command).await?;
            return Ok(output.map(shown).unwrap_or_default());
        }
        Line::Act(act) => drop(act.perform(world).await?),
        Line::Expire => world.agent.grant(&topology::proxy(0), SECONDS),
        Line::Rotate => world.agent.rotate(&topology::proxy(0)),
        Line::Other(words) => return other(world, &words).await,
    }
    Ok(String::new())
}

async fn other(world: &World, words: &[String]) -> Result<String, LabError> {
    let named = || format!("run `{}`", words.join(" "));
    let (program, arguments) = words.split_first().ok_or("it is empty").doing(named)?;
    let pod = world.fabric.proxies.first().ok_or("there is no proxy").doing(named)?;
    let child = pod.netns.run(|| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    });
    child.doing(named)?.wait_with_output().await.map(shown).doing(named)
}

/// Both outputs of a command.
fn shown(output: Output) -> String {
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_or_names_its_mistake() {
        let table = [
            ("  ", Line::Nothing),
            ("proxy  status --json", Line::Proxy("status --json".into())),
            ("stop ipam", Line::Act(Act::Kill(Component::Ipam))),
            ("start proxy", Line::Act(Act::StartProxy)),
            ("hang lb2", Line::Act(Act::LoseLb(1, Mishap::Hangs))),
            ("return lb1", Line::Act(Act::ReturnLb(0))),
            ("ip link", Line::Other(vec!["ip".into(), "link".into()])),
        ];
        for (line, expected) in table {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
        for (line, mistake) in [("stop ipm", "`ipm`"), ("hang lb0", "`lb0`"), ("hang t1", "`t1`")] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(mistake) && error.contains("accepted"), "{error}");
        }
    }
}
