// SPDX-License-Identifier: Apache-2.0
//! Entry point of the `lab` binary: parses its arguments, enters the namespaces, runs, and reports.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::PathBuf,
};

use nsm::chain::causes;

use super::{
    control_plane::peers,
    enter::{self, INSIDE, INTERRUPTED, Outside},
    error::{Doing, LabError},
    pods::ground::{self, Ground},
    run::{Run, plan::Plan, verdict::Report},
    svg,
    topology::Topology,
};

const HELP: &str = "\
Run the proxy between load balancers and targets, in namespaces of its own, and judge what it does.

Usage: lab [--full] [--only FAULT,...] [--skip FAULT,...] [--chaos N] [--seed S] [--json] [--keep | --console] [--smallest] [--peers DIR [--traces]] [--proxy PROGRAM]
       lab exec COMMAND [ARG...]
       lab svg

  --full      after the first look, let everything go wrong that can, one after the other
  --only A,B  of the first look only what is needed, then these faults
  --skip A,B  without these faults
  --chaos N   instead, N random sequences of faults that overlap, each in a world of its own
  --seed S    the seed of the first sequence (1); a sequence that fails prints its own, and is the same again
  --json      print the verdicts as one line of JSON, the last line of stdout; progress goes to stderr
  --keep      when the verdicts are in, leave everything running until Ctrl-C, and print how to enter
  --console   instead of all this, bring everything up and read commands from stdin: `help` lists them
  --smallest  one load balancer, one target and one IPv4 VIP instead of the whole network
  --peers DIR nsmgr and registry are those of NSM's Go sdk, from this folder (`make -C tests/interop build` fills tests/interop/bin)
  --traces    instead of all this, follow one Request of a Go target in a real OpenTelemetry collector; needs --peers
  --proxy P   everything once more with this program in the proxy's place, in the same environment; the report has both beside
              each other (`make -C tests/interop build` makes the twin of the Go proxy, tests/interop/bin/proxy)
  --help      print this

  exec        run COMMAND as root, with its exit status: as it is for root, else in a user namespace in which the user is root
              and may make namespaces; `make test` runs the tests by it
  svg         read the output of a run from stdin and print some of its lines as a picture

Needs nothing but Linux: root, or a kernel that allows user namespaces. Exit status 0 only if every verdict is true.";

/// The arguments of a run.
const ACCEPTED: &str = "--full, --only FAULT,..., --skip FAULT,..., --chaos N, --seed S, --json, --keep, --console, --smallest, --peers DIR, --traces, --proxy PROGRAM, --help, exec COMMAND, or svg";

/// First argument of a command instead of a run.
const EXEC: &str = "exec";

/// First argument for a picture of an output.
const SVG: &str = "svg";

/// The parsed arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Print JSON instead of a table.
    pub json: bool,
    /// The steps of the run.
    pub plan: Plan,
    /// Run [`Topology::smallest`].
    pub smallest: bool,
    /// Another program to run in the proxy's place, in the same steps.
    pub other: Option<PathBuf>,
    /// Folder of the Go programs, if they are used as nsmgr and registry.
    pub peers: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// The first argument that is not known or not complete.
    fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut options = Self::default();
        options.plan.seed = 1;
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--json") => options.json = true,
                Some("--keep") => options.plan.keep = true,
                Some("--full") => options.plan.full = true,
                Some("--smallest") => options.smallest = true,
                Some("--peers") => {
                    let folder = arguments.next().ok_or("`--peers` lacks the folder of the programs")?;
                    options.peers = Some(folder.into());
                    options.plan.peers = true;
                }
                Some(enter::CONSOLE) => {
                    options.plan.console = true;
                    options.plan.keep = true;
                }
                Some("--traces") => options.plan.traces = true,
                Some("--proxy") => {
                    let program = arguments.next().ok_or("`--proxy` lacks the program")?;
                    options.other = Some(program.into());
                    options.plan.compare = true;
                }
                Some("--chaos") => options.plan.chaos = number("--chaos", arguments.next())?,
                Some("--seed") => options.plan.seed = number("--seed", arguments.next())?,
                Some("--only") => options.plan.only = faults("--only", arguments.next())?,
                Some("--skip") => options.plan.skip = faults("--skip", arguments.next())?,
                _ => {
                    return Err(format!(
                        "`{}` is not an argument (accepted: {ACCEPTED})",
                        argument.display()
                    ));
                }
            }
        }
        options.plan.check()?;
        if options.plan.traces && options.peers.is_none() {
            return Err("`--traces` needs `--peers`".into());
        }
        if options.plan.compare && options.plan.keep {
            return Err("`--proxy` excludes `--keep` and `--console`".into());
        }
        Ok(options)
    }

    fn topology(&self) -> Topology {
        if self.smallest { Topology::smallest() } else { Topology::whole() }
    }
}

/// A number behind an argument.
fn number(argument: &str, number: Option<&OsString>) -> Result<u64, String> {
    let shown = number.map(|number| number.display().to_string()).unwrap_or_default();
    let parsed = shown.parse().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| format!("`{argument}` lacks a number of at least 1, it has `{shown}`"))
}

/// The names of faults, as `A,B`.
fn faults(argument: &str, names: Option<&OsString>) -> Result<Vec<String>, String> {
    let names = names.and_then(|names| names.to_str()).filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| format!("`{argument}` lacks the names of faults"))?;
    Ok(names.split(',').map(str::to_owned).collect())
}

/// Runs the program with its arguments, without its name. Returns the exit status.
pub fn main(mut arguments: Vec<OsString>) -> u8 {
    if arguments.first().is_some_and(|first| first == EXEC) {
        return exec(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == SVG) {
        return draw();
    }
    let inside = arguments.first().is_some_and(|first| first == INSIDE);
    if inside {
        arguments.remove(0);
    }
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return 0;
    }
    let options = match Options::parse(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("lab: {error}");
            return 2;
        }
    };
    let done = if inside { run(&options).map_err(|error| causes(&error)) } else { enter(&arguments) };
    done.unwrap_or_else(|error| {
        eprintln!("lab: {error}");
        1
    })
}

fn exec(arguments: &[OsString]) -> u8 {
    let Some((program, arguments)) = arguments.split_first() else {
        eprintln!("lab: `{EXEC}` lacks the command");
        return 2;
    };
    eprintln!("lab: {}", causes(&enter::exec(program, arguments)));
    1
}

fn draw() -> u8 {
    let mut output = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut output) {
        eprintln!("lab: `{SVG}` cannot read the output of a run: {error}");
        return 1;
    }
    print!("{}", svg::draw(&output));
    0
}

fn enter(arguments: &[OsString]) -> Result<u8, String> {
    enter::run_inside(arguments).map_err(|error| causes(&error))
}

/// The proxy's program, in the folder of this one.
fn proxy() -> io::Result<PathBuf> {
    Ok(fs::read_link("/proc/self/exe")?.with_file_name("proxy"))
}

fn run(options: &Options) -> Result<u8, LabError> {
    let mut outside = Outside::meet().doing(|| "learn about the outside".into())?;
    let proxy = proxy().doing(|| "find the proxy beside this program".into())?;
    let peers =
        options.peers.as_deref().into_iter().flat_map(|folder| peers::programs(folder, options.plan.traces));
    let other = options.other.clone().map(|program| (program, ground::OTHER.into()));
    let programs = [(proxy, ground::PROXY.into())].into_iter().chain(other).chain(peers);
    let ground = Ground::prepare(&programs.collect::<Vec<_>>())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.doing(|| "start threads".into())?;
    let stop = outside.stop.clone();
    let code = runtime.block_on(async {
        let topology = options.topology();
        let told = async {
            let report = Run::perform(&topology, &ground, &options.plan).await?;
            conclude(report, options, &mut outside).await
        };
        tokio::select! {
            code = told => code,
            () = stop.cancelled() => {
                eprintln!("lab: interrupted");
                Ok(INTERRUPTED)
            }
        }
    });
    // Remaining threads end with this process, the first of its PID namespace.
    runtime.shutdown_background();
    code
}

async fn conclude(
    report: (Report, Option<Run>),
    options: &Options,
    outside: &mut Outside,
) -> Result<u8, LabError> {
    let (report, mut run) = report;
    let table = format!("\n{report}");
    if options.json {
        eprintln!("{table}")
    } else {
        println!("{table}")
    }
    if let Some(run) = run.as_mut().filter(|_| options.plan.console) {
        run.console(outside.lines()).await?;
    } else if options.plan.keep {
        eprintln!("\n{}", how_to_enter(outside.pid));
        outside.stop.cancelled().await;
    }
    if options.json {
        println!("{}", report.json().doing(|| "write the verdicts".into())?);
    }
    Ok(u8::from(!report.ok()))
}

fn how_to_enter(pid: u32) -> String {
    format!(
        "Everything runs until Ctrl-C. To look around:\n  \
         nsenter --user --mount --net --pid --preserve-credentials --target {pid} sh     # as the user who started the lab\n  \
         nsenter --mount --net --pid --target {pid} sh                                   # as root\n\
         then, inside, `ls /run/netns` and\n  \
         nsenter --net=/run/netns/proxy sh"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_known_or_named() {
        let parse =
            |arguments: &[&str]| Options::parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>());
        let plan = Plan { seed: 1, ..Plan::default() };
        assert_eq!(parse(&[]), Ok(Options { plan, ..Options::default() }));
        let plan = Plan { keep: true, peers: true, seed: 1, ..Plan::default() };
        let all = Options { json: true, plan, smallest: true, other: None, peers: Some("bin".into()) };
        assert_eq!(parse(&["--keep", "--smallest", "--peers", "bin", "--json"]), Ok(all));
        assert!(parse(&["--jsn"]).unwrap_err().contains("`--jsn`"));
        assert!(parse(&["--peers"]).unwrap_err().contains("folder"));
        assert!(parse(&["--peers", "bin", "--traces"]).unwrap().plan.traces);
        assert!(parse(&["--traces"]).unwrap_err().contains("--peers"));
        assert!(parse(&["--proxy", "other"]).unwrap().plan.compare);
        assert!(parse(&["--proxy", "other", "--keep"]).unwrap_err().contains("exclude"));
        let chaos = parse(&["--chaos", "20", "--seed", "7"]).unwrap().plan;
        assert_eq!((chaos.chaos, chaos.seed), (20, 7));
        assert!(parse(&["--chaos", "many"]).unwrap_err().contains("`many`"));
        assert!(parse(&["--skip"]).unwrap_err().contains("`--skip`"));
        assert_eq!(parse(&["--full", "--skip", "lb-hangs,lb-leaves"]).unwrap().plan.skip.len(), 2);
    }
}
