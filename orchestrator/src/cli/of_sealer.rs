//! Flags and commands of sealer that have no work to do here: whoever gives one is told what holds instead.
//!
//! What has a meaning here is a flag, or a hidden alias, of the command itself. Everything else of sealer's command line, of all
//! its versions, stands in the two tables below and nowhere else. Help, man pages and completions do not know them.

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

const OVER_SSH: Answer = NotUsed("agents are enrolled (`gantry enroll`), nothing goes over ssh");
const OWN_WAY: Answer = NotUsed("agents know what they have, and fetch the rest");
const NO_LOG: Answer = NotUsed(
    "what happens is said on standard error, and GANTRY_LOG=debug says more (`gantry logs` for scripts)",
);
const NO_SPOOL: Answer =
    NotUsed("an archive is written and read without a second copy; what a store needs lies below --root");
const HOSTS_ARE_LISTED: Answer = Refused(
    "hosts stand in the Clusterfile",
    "write them into `spec.hosts`, or let `gantry join` and `gantry delete` do it",
);
const STAGE: &str = "`gantry stage -f Clusterfile` brings the image to the hosts and changes nothing else; `gantry run … --print` writes that file";
const ENV_IS_WRITTEN: Answer = Refused(
    "variables of a cluster stand in its Clusterfile",
    "write them into `spec.env` there, where the next command finds them, too",
);
const ONE_CLUSTER: Answer = Refused(
    "a cluster is named by its Clusterfile",
    "give that with -f; copies of those that were applied are in clusters/NAME/ below --root",
);

/// Flags: of which command (empty for all, and a dot for those that stand before the command), as sealer spells them (in capitals where a value follows), and what becomes of them.
const FLAGS: &[(&str, &str, Answer)] = &[
    // Of every command.
    (
        "",
        "--config FILE",
        Refused(
            "there is no configuration file",
            "`gantry --help` names the flags and variables that take its place",
        ),
    ),
    ("", "--debug", NO_LOG),
    (".", "-d", NO_LOG),
    (".", "-q --quiet", Anyway),
    ("", "--hide-time", Anyway),
    ("", "--hide-path", Anyway),
    ("", "--log-to-file", NO_LOG),
    ("", "--remote-logger-url URL", NO_LOG),
    ("", "--task-name NAME", NO_LOG),
    // Images.
    (
        "build",
        "-m --mode MODE",
        AnywayIf(
            &["lite"],
            "a build needs no cluster, no cloud and no docker",
            "leave it out; container images are brought by the build itself, or not with --build-mode lite",
        ),
    ),
    (
        "build",
        "--base BOOL?",
        AnywayIf(
            &["", "true"],
            "an image has all layers that its Kubefile names",
            "begin with `FROM scratch` and say --type app-installer; `gantry merge` puts it on a base",
        ),
    ),
    ("images", "-a --all", Anyway),
    (
        "images",
        "--history",
        Refused(
            "a list of images has no room for what made them",
            "`gantry history IMAGE` shows it",
        ),
    ),
    (
        "inspect",
        "-t --type TYPE",
        AnywayIf(
            &["image"],
            "there are images, and no containers of builds",
            "leave it out",
        ),
    ),
    (
        "inspect",
        "-c --clusterfile",
        Refused(
            "the Clusterfile of an image is a file of it",
            "`gantry cat IMAGE etc/Clusterfile` prints it, `gantry run IMAGE -m IPS --print` fills it in",
        ),
    ),
    ("save", "--tmp-dir DIR", NO_SPOOL),
    ("save", "--compress", Anyway),
    ("load", "--tmp-dir DIR", NO_SPOOL),
    // Clusters.
    ("run", "-u --user NAME", OVER_SSH),
    ("run", "-p --passwd SECRET", OVER_SSH),
    ("run", "--port PORT", OVER_SSH),
    ("run", "--pk FILE", OVER_SSH),
    ("run", "--pk-passwd SECRET", OVER_SSH),
    (
        "run",
        "--provider NAME",
        AnywayIf(
            &["BAREMETAL", "baremetal"],
            "hosts are not created",
            "leave it out, and name hosts that are there and enrolled (`gantry enroll`)",
        ),
    ),
    (
        "run",
        "--mode MODE",
        AnywayIf(&["apply"], "`gantry run` makes clusters", STAGE),
    ),
    ("run", "--ignore-cache", OWN_WAY),
    ("run", "--distributor NAME", OWN_WAY),
    (
        "run",
        "--interface NAME",
        Refused(
            "the image brings the network",
            "change its manifest with a document of kind Config in a Clusterfile",
        ),
    ),
    (
        "run",
        "--cni NAME",
        Refused(
            "the image brings the network",
            "change its manifest with a document of kind Config in a Clusterfile",
        ),
    ),
    ("apply", "-u --user NAME", OVER_SSH),
    ("apply", "-p --passwd SECRET", OVER_SSH),
    ("apply", "--port PORT", OVER_SSH),
    ("apply", "--pk FILE", OVER_SSH),
    ("apply", "--pk-passwd SECRET", OVER_SSH),
    (
        "apply",
        "-m --applyMode MODE",
        AnywayIf(
            &["apply"],
            "`gantry apply` makes the hosts what the Clusterfile says",
            STAGE,
        ),
    ),
    ("apply", "--masters IPS", HOSTS_ARE_LISTED),
    ("apply", "-n --nodes IPS", HOSTS_ARE_LISTED),
    ("apply", "-e --env VARIABLE", ENV_IS_WRITTEN),
    ("apply", "--ignore-cache", OWN_WAY),
    ("join", "-u --user NAME", OVER_SSH),
    ("join", "-p --passwd SECRET", OVER_SSH),
    ("join", "--port PORT", OVER_SSH),
    ("join", "--pk FILE", OVER_SSH),
    ("join", "--pk-passwd SECRET", OVER_SSH),
    ("join", "-e --env VARIABLE", ENV_IS_WRITTEN),
    ("join", "-c --cluster-name NAME", ONE_CLUSTER),
    ("join", "--ignore-cache", OWN_WAY),
    ("delete", "-e --env VARIABLE", ENV_IS_WRITTEN),
    ("delete", "-c --cluster NAME", ONE_CLUSTER),
    ("delete", "-p --prune", Anyway),
    (
        "rollback",
        "--apps NAMES",
        Refused(
            "applications are those that the Clusterfile names",
            "write them into `spec.appNames` there",
        ),
    ),
    ("rollback", "--ignore-cache", OWN_WAY),
    (
        "check",
        "--pre",
        Refused(
            "hosts are looked at before every change",
            "`gantry plan -f Clusterfile` does it and changes nothing",
        ),
    ),
    (
        "check",
        "--post",
        Refused(
            "a cluster is looked at by another command",
            "`gantry status` shows its nodes, etcd, certificates and what differs on the hosts",
        ),
    ),
];

/// Commands: as sealer spells them, why they are not here, and the next thing to do.
const COMMANDS: &[(&str, &str, &str)] = &[
    (
        "upgrade",
        "an upgrade is an apply",
        "name the new image in the Clusterfile, then `gantry plan` and `gantry apply`",
    ),
    ("cert", CERT.0, CERT.1),
    ("gen", GEN.0, GEN.1),
    ("debug", DEBUG.0, DEBUG.1),
    ("exec", EXEC.0, EXEC.1),
    (
        "gen-doc",
        "there is one page for each command",
        "`gantry man DIR` writes them",
    ),
    (
        "manifest delete",
        "a name that leads to several images is removed like any other",
        "`gantry rmi NAME` does it",
    ),
    ("alpha cert", CERT.0, CERT.1),
    ("alpha gen", GEN.0, GEN.1),
    ("alpha debug", DEBUG.0, DEBUG.1),
    ("alpha exec", EXEC.0, EXEC.1),
    (
        "alpha check",
        "a cluster is looked at by other commands",
        "`gantry plan` looks at hosts before a change, `gantry status` after it",
    ),
    (
        "alpha host-alias",
        "names of addresses stand in the Clusterfile",
        "write them into `spec.hostAliases` there, then `gantry apply`",
    ),
];
const CERT: (&str, &str) = (
    "certificates are looked after by another command",
    "`gantry certs` lists them, `gantry certs renew` renews them; further names of the API server are in `spec.env`: CertSANs=NAME,ADDRESS",
);
const GEN: (&str, &str) = (
    "a cluster that others made is not taken over",
    "write a Clusterfile for hosts that have no cluster, and `gantry apply` it",
);
const DEBUG: (&str, &str) = (
    "Kubernetes has its own way to look into pods and nodes",
    "`kubectl debug POD` or `kubectl debug node/NAME`; `gantry logs` shows what scripts wrote on a host",
);
const EXEC: (&str, &str) = (
    "agents run what images and Clusterfiles bring, at its moment",
    "write a document of kind Plugin and type SHELL, or use ssh",
);

/// `command`, which reads sealer's flags and commands as well.
pub(super) fn known_to(mut command: Command) -> Command {
    for (number, (of, spelled, _)) in FLAGS.iter().enumerate() {
        let flag = flag(number, spelled);
        command = match *of {
            "" => command.arg(flag.global(true)),
            "." => command.arg(flag),
            of => within(command, of, |command| command.arg(flag)),
        };
    }
    for (words, ..) in COMMANDS {
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
    format!("of sealer {number}")
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
        if let Some((words, why, instead)) = COMMANDS.iter().find(|(words, ..)| *words == path) {
            given.refused = Some((format!("there is no `gantry {words}`: {why}"), instead));
            return given;
        }
        for (number, (of, spelled, answer)) in FLAGS.iter().enumerate() {
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
        ("inspect", "x:v1"),
        ("save", "-o x.tar x:v1"),
        ("load", "x.tar"),
        ("run", "x:v1 -m 10.0.0.2"),
        ("check", "x:v1"),
    ];

    /// Command lines of sealer's that do here what they do there.
    const SAME: &[&str] = &[
        "build -t x:v1",
        "build -f Kubefile -t x:v1 .",
        "build --kubefile Kubefile --imageName x:v1 --no-cache .",
        "build -m lite -t x:v1 --base .",
        "build -t x:v1 --base=true --build-arg a=b --platform linux/amd64,linux/arm64 .",
        "build -t x:v1 --image-list A --image-list-with-auth B --ignored-image-list C .",
        "build -t x:v1 --pull=ifnewer .",
        "build -t x:v1 --pull=always .",
        "build -t x:v1 --pull=never .",
        "build -t x:v1 --pull=missing .",
        "build -t x:v1 --pull=true .",
        "build -t x:v1 --pull=false .",
        "build -t x:v1 --pull .",
        "build -t x:v1 --type kube-installer --build-mode all .",
        "build -t x:v1 --type app-installer --build-mode lite .",
        "build -t x:v1 --annotation a=b --label c=d .",
        "pull x:v1 --platform linux/arm64 --policy ifnewer -q --skip-tls-verify",
        "push x:v1 --authfile F --skip-tls-verify -q --all",
        "images",
        "images -a --digests --no-trunc",
        "images --json",
        "images -n",
        "images --noheading -q",
        "inspect -f {{.Digest}} x:v1",
        "inspect -t image x:v1",
        "inspect --platform linux/arm64 x:v1",
        "save x:v1 -o F --format oci-archive -q",
        "save x:v1 -o F --format oci-dir --compress",
        "save x:v1 -o F --format docker-archive --platform linux/amd64",
        "save x:v1 -o F --format docker-dir",
        "load -i F -q",
        "tag x:v1 y:v1 z:v1",
        "rmi x:v1 y:v1 -f",
        "rmi -p",
        "rmi x:v1 --platform linux/arm64",
        "login hub.lab -u me -p secret --skip-tls-verify",
        "login hub.lab -u me --passwd secret",
        "logout hub.lab",
        "merge x:v1 y:v1 -t z:v1 --platform linux/amd64",
        "alpha merge x:v1 y:v1 -t z:v1",
        "search x",
        "alpha search x",
        "prune",
        "alpha manifest create x:v1 y:v1",
        "alpha manifest inspect x:v1",
        "alpha manifest push x:v1",
        "alpha mount x:v1",
        "alpha umount -a",
        "run x:v1 -m 10.0.0.2 -n 10.0.0.3 --cluster-name c --cmd-args a=b -e A=b",
        "run x:v1 -m 10.0.0.2 --podcidr 10.0.0.0/8 --svccidr 10.0.0.0/8 --provider BAREMETAL",
        "run -f Clusterfile --apps a,b --mode apply",
        "apply -f Clusterfile --force -m apply",
        "scale-up -n 10.0.0.3",
        "join -m 10.0.0.3",
        "delete -n 10.0.0.3 --force -p",
        "delete -a",
        "rollback x:v1",
        "version",
        "version -s",
        "completion bash",
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
        for (of, spelled, answer) in FLAGS {
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
        for (words, why, _) in COMMANDS {
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
        for line in SAME {
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
        for (number, (of, ..)) in FLAGS.iter().enumerate() {
            let command = match *of {
                "" | "." => &command,
                of => command.find_subcommand(of).unwrap(),
            };
            let id = id(number);
            let flag = command.get_arguments().find(|flag| flag.get_id().as_str() == id);
            assert!(flag.is_some_and(Arg::is_hide_set), "{:?}", FLAGS[number]);
        }
        let help = command.render_long_help().to_string();
        for (words, ..) in COMMANDS.iter().filter(|(words, ..)| !words.contains(' ')) {
            assert!(!help.contains(&format!("\n  {words} ")), "{words}: {help}");
        }
    }
}
