// SPDX-License-Identifier: Apache-2.0

//! The variables of a program.

use std::{str::FromStr, time::Duration};

use super::{
    Reader, Variable,
    reader::{Get, Mistakes},
};

type Lookup = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Reads the variables of a program. A value that is not accepted is `None`, and a mistake that is
/// reported together with all others.
///
/// ```
/// use nsm::app::config::{Env, Variable};
///
/// struct Config {
///     mtu: u32,
///     services: Vec<String>,
/// }
///
/// fn read(env: &mut Env) -> Option<Config> {
///     let mtu = env.parsed(Variable::new("NSM_MTU", "1500", "MTU of links"), "a number of bytes");
///     let services = env.list(Variable::new("NSM_SERVICES", "web,shop", "Network services"));
///     Some(Config { mtu: mtu?, services: services? })
/// }
///
/// let config = Env::of(|_| None).read(read)?;
/// assert_eq!((config.mtu, config.services), (1500, vec!["web".to_owned(), "shop".to_owned()]));
///
/// let set = |name: &str| (name == "NSM_MTU").then(|| "large".to_owned());
/// let mistakes = Env::of(set).read(read).err().unwrap();
/// assert_eq!(mistakes.to_string(), r#"NSM_MTU="large" is not accepted (accepted: a number of bytes)"#);
/// # Ok::<_, nsm::app::config::Mistakes>(())
/// ```
pub struct Env {
    reader: Reader<Lookup>,
    read: Vec<Variable>,
}

impl Env {
    /// The environment of the process.
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Variables that `get` looks up by name; `None` means unset.
    pub fn of(get: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        Self { reader: Reader::new(Box::new(get)), read: Vec::new() }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// Every variable that is not accepted.
    pub fn read<C>(mut self, read: impl FnOnce(&mut Self) -> Option<C>) -> Result<C, Mistakes> {
        let read = read(&mut self);
        self.reader.finish(())?;
        read.ok_or_else(|| Mistakes(Vec::new()))
    }

    /// A value as its type parses it.
    pub fn parsed<T: FromStr>(&mut self, variable: Variable, accepted: &str) -> Option<T> {
        self.value(variable, accepted, |text| text.parse().ok())
    }

    /// A value as `parse` parses it.
    pub fn value<T>(
        &mut self,
        variable: Variable,
        accepted: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.read.push(variable);
        self.reader.value(variable, accepted, |text| parse(text).map(Some))
    }

    /// A list of names, separated by commas. At least one.
    pub fn list(&mut self, variable: Variable) -> Option<Vec<String>> {
        self.value(variable, "names, separated by commas", |text| {
            let names: Vec<_> = text.split(',').map(str::trim).map(str::to_owned).collect();
            names.iter().all(|name| !name.is_empty()).then_some(names)
        })
    }

    /// Labels such as `app:web,zone:a`; none if the value is empty.
    pub fn labels(&mut self, variable: Variable) -> Option<Vec<(String, String)>> {
        self.value(variable, "labels such as app:web,zone:a", |text| {
            let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once(':')?;
                    (!name.is_empty()).then(|| (name.trim().to_owned(), value.trim().to_owned()))
                })
                .collect()
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, variable: Variable) -> Option<bool> {
        self.parsed(variable, "true or false")
    }

    /// A name that becomes part of ids, labels or file names.
    pub fn name(&mut self, variable: Variable) -> Option<String> {
        self.read.push(variable);
        Some(self.reader.name(variable))
    }

    /// A duration in Go's syntax, such as `1m30s`, of at least a millisecond and at most a year.
    pub fn duration(&mut self, variable: Variable) -> Option<Duration> {
        self.read.push(variable);
        Some(self.reader.duration(variable, Duration::from_millis(1)))
    }

    /// A duration that may be 0, in Go's syntax, of at most a year.
    pub fn duration_or_zero(&mut self, variable: Variable) -> Option<Duration> {
        self.read.push(variable);
        Some(self.reader.duration(variable, Duration::ZERO))
    }

    /// The reader, for variables that have rules of their own.
    pub(crate) fn reader(&mut self, variables: &[Variable]) -> &mut Reader<impl Get> {
        self.read.extend(variables);
        &mut self.reader
    }

    /// The variables that were read, each with its default and its meaning.
    pub(crate) fn help(&self) -> String {
        self.read
            .iter()
            .map(|variable| {
                let default = if variable.default.is_empty() {
                    String::new()
                } else {
                    format!(" [{}]", variable.default)
                };
                format!("{}{default}\n    {}\n", variable.name, variable.meaning)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: Variable = Variable::new("SERVICES", "a, b", "Services");
    const LABELS: Variable = Variable::new("LABELS", "", "Labels");
    const WAIT: Variable = Variable::new("WAIT", "1m", "Time");
    const ON: Variable = Variable::new("ON", "true", "Switch");

    type Read = (Vec<String>, Vec<(String, String)>, Duration, bool);

    fn read(env: &mut Env) -> Option<Read> {
        let services = env.list(SERVICES);
        let labels = env.labels(LABELS);
        let wait = env.duration(WAIT);
        let on = env.flag(ON);
        Some((services?, labels?, wait?, on?))
    }

    #[test]
    fn variables_have_their_defaults_or_their_values() {
        let (services, labels, wait, on) = Env::of(|_| None).read(read).unwrap();
        assert_eq!(
            (services, labels.len(), wait, on),
            (vec!["a".into(), "b".into()], 0, Duration::from_secs(60), true)
        );
        let (_, labels, ..) = Env::of(|name: &str| (name == "LABELS").then(|| "app: web,zone:a".to_owned()))
            .read(read)
            .unwrap();
        assert_eq!(labels, [("app".into(), "web".into()), ("zone".into(), "a".into())]);
    }

    #[test]
    fn zero_is_a_duration_only_where_it_is_accepted() {
        const NEVER: Variable = Variable::new("NEVER", "0", "Time; 0 is never");
        assert_eq!(Env::of(|_| None).read(|env| env.duration_or_zero(NEVER)), Ok(Duration::ZERO));
        assert!(Env::of(|_| None).read(|env| env.duration(NEVER)).is_err());
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let mistakes = Env::of(|name: &str| Some(if name == "SERVICES" { "a,,b" } else { "?" }.to_owned()))
            .read(read)
            .unwrap_err();
        let named: Vec<_> = mistakes.0.iter().map(|mistake| mistake.variable).collect();
        assert_eq!(named, ["SERVICES", "LABELS", "WAIT", "ON"]);
    }

    #[test]
    fn the_help_has_every_variable_that_is_read() {
        let mut help = String::new();
        Env::of(|_| None)
            .read(|env: &mut Env| {
                let read = read(env);
                help = env.help();
                read
            })
            .unwrap();
        assert_eq!(
            help.lines().step_by(2).collect::<Vec<_>>(),
            ["SERVICES [a, b]", "LABELS", "WAIT [1m]", "ON [true]"]
        );
    }
}
