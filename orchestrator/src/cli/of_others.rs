//! Flags and commands of other programs that have no work to do here: whoever gives one is told what holds instead.
//!
//! What has a meaning here is a flag, or a hidden alias, of the command itself. Everything else of sealer's command line, and what
//! docker, podman, buildah and skopeo would have it called, stands in tables, and nowhere else. Help, man pages and completions do not
//! know them.

mod container_tools;
mod sealer;

use clap::{Arg, ArgAction, ArgMatches, Command};
use gantry_model::ExitCode;

use crate::exit::failure_hint;

/// What becomes of a flag.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// It says what happens anyway.
    Anyway,
    /// It says what happens anyway if it has one of these values. Others are refused: why, and the next thing to do.
    AnywayIf(&'static [&'static str], &'static str, &'static str),
    /// Scripts may go on giving it; why it is not used.
    NotUsed(&'static str),
    /// It is refused: why, and the next thing to do.
    Refused(&'static str, &'static str),
}

use Answer::{Anyway, AnywayIf, NotUsed, Refused};

/// A flag: of which command (empty for all, and a dot for those that stand before the command), as it is spelled there (in capitals
/// where a value follows), and what becomes of it.
type Flag = (&'static str, &'static str, Answer);
/// A command: as it is spelled there, why it is not here, and the next thing to do.
type Word = (&'static str, &'static str, &'static str);

/// All flags.
fn flags() -> impl Iterator<Item = &'static Flag> {
    sealer::FLAGS.iter().chain(container_tools::FLAGS)
}

/// All commands.
fn words() -> impl Iterator<Item = &'static Word> {
    sealer::COMMANDS.iter().chain(container_tools::COMMANDS)
}

/// `command`, which reads the flags and commands of others as well.
pub(super) fn known_to(mut command: Command) -> Command {
    for (number, (of, spelled, _)) in flags().enumerate() {
        let flag = flag(number, spelled);
        command = match *of {
            "" => command.arg(flag.global(true)),
            "." => command.arg(flag),
            of => within(command, of, |command| command.arg(flag)),
        };
    }
    for (words, ..) in words() {
        let (of, name) = words.rsplit_once(' ').unwrap_or(("", words));
        let rest = Arg::new("rest")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true);
        let unknown = Command::new(name).hide(true).disable_help_flag(true).arg(rest);
        command = within(command, of, |command| command.subcommand(unknown));
    }
    command
}

/// Changes the command that `words` lead to.
fn within(command: Command, words: &str, change: impl FnOnce(Command) -> Command) -> Command {
    match words.split_once(' ') {
        None if words.is_empty() => change(command),
        None => command.mut_subcommand(words, change),
        Some((first, rest)) => command.mut_subcommand(first, |command| within(command, rest, change)),
    }
}

fn flag(number: usize, spelled: &str) -> Arg {
    let mut flag = Arg::new(id(number)).hide(true).action(ArgAction::SetTrue);
    for word in spelled.split(' ') {
        flag = match word.strip_prefix("--") {
            Some(long) => flag.long(long.to_owned()),
            None if word.starts_with('-') => flag.short(word.chars().nth(1)),
            None if word.ends_with('?') => flag
                .action(ArgAction::Append)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(""),
            None => flag.action(ArgAction::Append).allow_hyphen_values(true),
        };
    }
    flag
}

fn id(number: usize) -> String {
    format!("of others {number}")
}

/// What a command line gave of the tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// The first thing that is refused: what it is and why, and the next thing to do.
    refused: Option<(String, &'static str)>,
    /// Flags that are not used, by why.
    not_used: Vec<(&'static str, Vec<&'static str>)>,
}

impl Given {
    /// What `matches` have of the tables. They may come of a command line with mistakes.
    pub(super) fn of(matches: &ArgMatches) -> Self {
        let mut given = Self::default();
        let (mut path, mut at) = (String::new(), matches);
        while let Some((name, below)) = at.subcommand() {
            path = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path} {name}")
            };
            at = below;
        }
        if let Some((words, why, instead)) = words().find(|(words, ..)| *words == path) {
            given.refused = Some((format!("there is no `gantry {words}`: {why}"), instead));
            return given;
        }
        for (number, (of, spelled, answer)) in flags().enumerate() {
            if *of == "." {
                given.take(matches, number, spelled, *answer);
            } else if of.is_empty() || *of == path {
                given.take(at, number, spelled, *answer);
            }
        }
        given
    }

    fn take(&mut self, matches: &ArgMatches, number: usize, spelled: &'static str, answer: Answer) {
        let id = id(number);
        // Never shown: it may be a password.
        let value = match matches.try_get_many::<String>(&id) {
            Ok(Some(mut values)) => values.next_back().cloned(),
            Ok(None) => return,
            Err(_) if matches.get_flag(&id) => None,
            Err(_) => return,
        };
        let long = spelled.split(' ').find(|word| word.starts_with("--"));
        let long = long.unwrap_or(spelled);
        match answer {
            Anyway => {}
            AnywayIf(values, ..) if values.contains(&value.as_deref().unwrap_or_default()) => {}
            AnywayIf(_, why, instead) => {
                let value = value.unwrap_or_default();
                let refused = (format!("{long} {value} is not supported: {why}"), instead);
                self.refused.get_or_insert(refused);
            }
            Refused(why, instead) => {
                self.refused
                    .get_or_insert((format!("{long} is not supported: {why}"), instead));
            }
            NotUsed(why) => match self.not_used.iter_mut().find(|(known, _)| *known == why) {
                Some((_, flags)) => flags.push(long),
                None => self.not_used.push((why, vec![long])),
            },
        }
    }

    /// Refuses what asks for what is not done here.
    ///
    /// # Errors
    /// When something does.
    pub(super) fn refuse(&self) -> anyhow::Result<()> {
        match &self.refused {
            None => Ok(()),
            Some((message, instead)) => Err(failure_hint(ExitCode::Input, message, *instead)),
        }
    }

    /// Says which flags were given for nothing.
    pub(super) fn tell(&self) {
        let style = anstyle::Style::new().bold();
        for (why, flags) in &self.not_used {
            let verb = if flags.len() == 1 { "is" } else { "are" };
            anstream::eprintln!(
                "{style}note:{style:#} {} {verb} not used: {why}",
                flags.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// What a command needs besides the flag that is tried.
    const NEEDED: &[(&str, &str)] = &[
        ("build", "-t x:v1 ."),
        ("pull", "x:v1"),
        ("push", "x:v1"),
        ("manifest push", "x:v1"),
        ("search", "x"),
        ("login", "hub.lab"),
        ("logout", "hub.lab"),
        ("rmi", "x:v1"),
        ("history", "x:v1"),
        ("inspect", "x:v1"),
        ("save", "-o x.tar x:v1"),
        ("load", "x.tar"),
        ("run", "x:v1 -m 10.0.0.2"),
        ("check", "x:v1"),
    ];

    fn matches(words: &[&str]) -> ArgMatches {
        let words = [&["gantry"], words].concat();
        let lenient = known_to(Cli::command()).ignore_errors(true);
        lenient.try_get_matches_from(words).unwrap()
    }

    fn strictly(words: &[&str]) -> Result<ArgMatches, clap::Error> {
        known_to(Cli::command()).try_get_matches_from([&["gantry"], words].concat())
    }

    #[test]
    fn every_flag_of_the_table_gets_its_answer() {
        for (of, spelled, answer) in flags() {
            let command = match *of {
                "" | "." => "images",
                of => of,
            };
            let needed = NEEDED.iter().find(|(command, _)| command == of);
            let needed = needed.map_or("", |(_, words)| *words);
            let flags = spelled.split(' ').filter(|word| word.starts_with('-'));
            let takes = spelled.split(' ').any(|word| !word.starts_with('-'));
            for flag in flags {
                let optional = spelled.ends_with('?');
                let given = match (takes, optional) {
                    (true, true) => format!("{flag}=hunter2"),
                    (true, false) => format!("{flag} hunter2"),
                    (false, _) => flag.to_owned(),
                };
                let line = match *of {
                    "." => format!("{given} {command}"),
                    _ => format!("{command} {given} {needed}"),
                };
                let words: Vec<&str> = line.split_whitespace().collect();
                let accepted = strictly(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
                let given = Given::of(&accepted);
                assert_eq!(given, Given::of(&matches(&words)), "{line}");
                let refused = given.refused.as_ref().map(|(message, _)| message.as_str());
                match answer {
                    Anyway => assert_eq!(given, Given::default(), "{line}"),
                    NotUsed(why) => {
                        assert_eq!((refused, given.not_used[0].0), (None, *why), "{line}");
                        assert!(!format!("{given:?}").contains("hunter2"), "{line}: {given:?}");
                    }
                    Refused(why, _) | AnywayIf(_, why, _) => {
                        assert!(
                            refused.is_some_and(|said| said.contains(why)),
                            "{line}: {refused:?}"
                        );
                    }
                }
                if let AnywayIf(values, ..) = answer {
                    for value in *values {
                        let line = line.replace("hunter2", value);
                        let words: Vec<&str> = line.split_whitespace().collect();
                        assert_eq!(Given::of(&strictly(&words).unwrap()), Given::default(), "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_command_of_the_table_is_refused_whatever_follows() {
        for (words, why, _) in words() {
            for rest in [
                "",
                "x:v1 --apps a -f b",
                "--help",
                "-c my-cluster -r master ls -l",
            ] {
                let line = format!("{words} {rest}");
                let given = Given::of(&matches(&line.split_whitespace().collect::<Vec<_>>()));
                let said = given.refused.unwrap_or_else(|| panic!("{line} is not refused"));
                assert!(said.0.contains(words) && said.0.contains(why), "{line}: {said:?}");
            }
        }
    }

    #[test]
    fn what_has_a_meaning_here_is_understood_without_a_word() {
        for line in sealer::SAME.iter().chain(container_tools::SAME) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let accepted = strictly(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(Given::of(&accepted), Given::default(), "{line}");
        }
    }

    #[test]
    fn what_is_refused_is_said_before_what_is_missing() {
        for line in [
            "check --pre",
            "build --mode cloud",
            "inspect -c",
            "--config x images",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(Given::of(&matches(&words)).refused.is_some(), "{line}");
        }
    }

    #[test]
    fn help_does_not_know_them_and_the_command_line_stays_consistent() {
        let mut command = known_to(Cli::command());
        command.clone().debug_assert();
        command.build();
        for (number, (of, ..)) in flags().enumerate() {
            let command = match *of {
                "" | "." => &command,
                of => of
                    .split(' ')
                    .fold(&command, |command, word| command.find_subcommand(word).unwrap()),
            };
            let id = id(number);
            let flag = command.get_arguments().find(|flag| flag.get_id().as_str() == id);
            assert!(flag.is_some_and(Arg::is_hide_set), "{of} {number}");
        }
        let help = command.render_long_help().to_string();
        for (words, ..) in words().filter(|(words, ..)| !words.contains(' ')) {
            assert!(!help.contains(&format!("\n  {words} ")), "{words}: {help}");
        }
    }
}
