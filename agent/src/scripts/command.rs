//! [`ScriptSpec`] and rootfs → [`Program`]: what is to be run. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use gantry_model::{ClusterName, ScriptSpec, takes_code};
use gantry_protocol::limits::MAX_SCRIPT_WORDS;

use crate::facts::PATH;
use crate::kubeadm::ADMIN;

/// What runs scripts.
pub(crate) const BASH: &str = "/bin/bash";
/// How kubectl and helm find the cluster.
const KUBECONFIG: &str = "KUBECONFIG";
/// Stands for the rootfs in arguments.
const ROOTFS_WORD: &str = "{rootfs}";

/// Why a script as asked for cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("script {path:?}: {reason}")]
pub struct BadScript {
    path: String,
    reason: String,
}

/// A program of the image, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The cluster whose rootfs has it.
    pub(super) cluster: ClusterName,
    /// What it is, for people: the path of a script, `CMD 1`.
    pub(super) name: String,
    /// Path below the rootfs of the file that has to be the image's; none for what was proved otherwise.
    pub(super) file: Option<String>,
    /// Seconds after which it is ended. 0: no limit.
    pub(super) time_limit_s: u32,
    /// What is executed.
    pub(crate) command: Command,
    /// What it reads and nobody else may.
    pub(crate) secret: Option<SecretFile>,
}

/// What is executed: `PROGRAM WORDS` in `folder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// The working directory.
    pub(crate) folder: PathBuf,
    /// The program, by its absolute path.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) words: Vec<String>,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
}

/// A file that is there for root alone, in the step's folder, while the program runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretFile {
    /// Where.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) content: String,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFile({})", self.path.display())
    }
}

/// Whether `spec` can be run in any rootfs.
///
/// # Errors
/// What is wrong with it.
pub fn check(spec: &ScriptSpec) -> Result<(), BadScript> {
    let bad = |reason: String| {
        Err(BadScript {
            path: spec.path.chars().take(160).collect(),
            reason,
        })
    };
    let parts: Vec<&str> = spec.path.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) || spec.path.contains(char::is_control) {
        return bad("its path must be names separated by '/', below the rootfs".into());
    }
    // `bash -x.sh` would be an option.
    if parts.last().is_some_and(|name| name.starts_with('-')) {
        return bad("its name must not start with '-'".into());
    }
    if spec.args.iter().any(|arg| arg.contains('\0')) {
        return bad("an argument has a NUL byte".into());
    }
    check_environment(spec.args.len() + spec.env.len(), &spec.env).or_else(bad)
}

/// Whether `env` can be the environment of a program that is given `words` arguments and variables.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_environment(words: usize, env: &BTreeMap<String, String>) -> Result<(), String> {
    if words > MAX_SCRIPT_WORDS {
        return Err(format!(
            "at most {MAX_SCRIPT_WORDS} arguments and variables are allowed"
        ));
    }
    for (name, value) in env {
        let head = name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !head || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!(
                "{name:?} is not the name of a variable: letters, digits and '_'"
            ));
        }
        if takes_code(name) {
            return Err(format!(
                "{name} makes programs run what no image brings; leave it out of the environment"
            ));
        }
        // systemd drops such variables without a word.
        if value.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n')) {
            return Err(format!("the value of {name} has control characters"));
        }
    }
    Ok(())
}

impl Program {
    /// `spec` in the rootfs at `rootfs`: `bash NAME ARGUMENTS` in the script's folder.
    pub(crate) fn script(spec: &ScriptSpec, rootfs: &Path) -> Result<Self, BadScript> {
        check(spec)?;
        let (folder, name) = spec.path.rsplit_once('/').unwrap_or(("", &spec.path));
        let rootfs_text = rootfs.to_string_lossy();
        let args = spec.args.iter().map(|arg| arg.replace(ROOTFS_WORD, &rootfs_text));
        Ok(Self {
            cluster: spec.cluster.clone(),
            name: spec.path.clone(),
            file: Some(spec.path.clone()),
            time_limit_s: spec.time_limit_s,
            command: Command {
                folder: rootfs.join(folder),
                program: BASH.into(),
                words: std::iter::once(name.to_owned()).chain(args).collect(),
                env: environment(&spec.env),
            },
            secret: None,
        })
    }

    /// `program`, which is or runs the file at `path` of the image, in the rootfs.
    pub(crate) fn of_image(
        cluster: &ClusterName,
        path: &str,
        rootfs: &Path,
        program: PathBuf,
        words: Vec<String>,
        time_limit_s: u32,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            name: path.to_owned(),
            file: Some(path.to_owned()),
            time_limit_s,
            command: Command {
                folder: rootfs.to_owned(),
                program,
                words,
                env: login_environment(),
            },
            secret: None,
        }
    }

    /// Bash with `words`, in the rootfs; that it may run was proved otherwise.
    pub(crate) fn bash(
        cluster: &ClusterName,
        name: String,
        rootfs: &Path,
        words: Vec<String>,
        env: &BTreeMap<String, String>,
        time_limit_s: u32,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            name,
            file: None,
            time_limit_s,
            command: Command {
                folder: rootfs.to_owned(),
                program: BASH.into(),
                words,
                env: environment(env),
            },
            secret: None,
        }
    }

    /// The same with a file that it reads.
    pub(crate) fn with_secret(self, secret: Option<SecretFile>) -> Self {
        Self { secret, ..self }
    }
}

/// `env`, and where the cluster is found if this host can tell.
pub(super) fn with_kubeconfig(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env = env.clone();
    if Path::new(ADMIN).is_file() {
        env.entry(KUBECONFIG.to_owned())
            .or_insert_with(|| ADMIN.to_owned());
    }
    env
}

/// `env` over what every program finds. Which programs a name leads to is the host's own: a `PATH` among `env` has no effect.
fn environment(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut whole = login_environment();
    let others = env.iter().filter(|(name, _)| *name != "PATH");
    whole.extend(others.map(|(name, value)| (name.clone(), value.clone())));
    whole
}

/// What a script finds when it is run over ssh as root, as sealer does; units have less.
fn login_environment() -> BTreeMap<String, String> {
    [
        ("PATH", PATH),
        ("HOME", "/root"),
        ("USER", "root"),
        ("LOGNAME", "root"),
        ("SHELL", "/bin/bash"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &str) -> ScriptSpec {
        ScriptSpec {
            cluster: "demo".parse().unwrap(),
            path: path.into(),
            args: vec!["5000".into(), "{rootfs}/registry".into()],
            env: [("RegistryDomain".to_owned(), "sea.hub".to_owned())].into(),
            time_limit_s: 0,
        }
    }

    #[test]
    fn the_folder_is_the_scripts_own_and_the_rootfs_is_filled_in() {
        let command = Program::script(&spec("scripts/init-registry.sh"), Path::new("/r"))
            .unwrap()
            .command;
        assert_eq!(command.folder, Path::new("/r/scripts"));
        assert_eq!(command.words, ["init-registry.sh", "5000", "/r/registry"]);
        assert_eq!(
            (&*command.env["RegistryDomain"], &*command.env["HOME"]),
            ("sea.hub", "/root")
        );
        assert_eq!(
            Program::script(&spec("init.sh"), Path::new("/r"))
                .unwrap()
                .command
                .folder,
            Path::new("/r/")
        );
    }

    #[test]
    fn the_clusters_environment_wins_over_the_login_one() {
        let mut spec = spec("scripts/init.sh");
        spec.env.insert("HOME".into(), "/srv".into());
        let program = Program::script(&spec, Path::new("/r")).unwrap();
        assert_eq!(program.command.env["HOME"], "/srv");
    }

    #[test]
    fn no_environment_makes_a_script_run_other_code() {
        for name in ["BASH_ENV", "LD_PRELOAD", "SHELLOPTS"] {
            let mut spec = spec("scripts/init.sh");
            spec.env.insert(name.into(), "$(touch /tmp/x)".into());
            let refused = check(&spec).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
        let mut spec = spec("scripts/init.sh");
        spec.env.insert("PATH".into(), "/srv".into());
        let program = Program::script(&spec, Path::new("/r")).unwrap();
        assert_eq!(program.command.env["PATH"], PATH);
    }

    #[test]
    fn paths_that_leave_the_rootfs_and_odd_variables_are_refused() {
        for path in [
            "",
            "/etc/x.sh",
            "../x.sh",
            "scripts/../../x.sh",
            "scripts//x.sh",
            "a\nb",
            "scripts/-c",
        ] {
            assert!(check(&spec(path)).is_err(), "{path:?}");
        }
        for (name, value) in [
            ("A=B", "x"),
            ("1A", "x"),
            ("", "x"),
            ("A", "\u{7}"),
            ("A", "a\0b"),
        ] {
            let mut spec = spec("scripts/init.sh");
            spec.env.insert(name.into(), value.into());
            assert!(check(&spec).is_err(), "{name:?}={value:?}");
        }
        let mut spec = spec("scripts/init.sh");
        spec.args = vec![String::new(); MAX_SCRIPT_WORDS];
        assert!(check(&spec).is_err());
    }
}
