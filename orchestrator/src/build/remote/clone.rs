//! Fetches what a commit of a repository has, with the machine's git: its keys, credential helpers and proxies are the user's.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gantry_model::ExitCode;

use super::FetchError;
use super::watched::{self, Bounds, Ended, MAX_SAID_LEN};

/// Ways to a repository. `ext::` and local paths run, or read, what a Kubefile has no business with.
const PROTOCOLS: &str = "https:http:ssh:git";
/// Most characters of what git says that are shown.
const MAX_SHOWN: usize = 400;
/// What would make git work on another repository than the new one: hooks of git set it.
const OF_ANOTHER_REPOSITORY: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
];
/// Whoever sends fewer than 1000 bytes a second for a minute is not waited for longer.
const PATIENCE: [&str; 4] = ["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"];
/// How ssh is called where the user says nothing: it asks nobody, and waits a minute for who says nothing.
const SSH: &str = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4";
/// What a repository may take: more than any has that is built from. What takes git long without a change of its folder is
/// putting together what came.
pub(super) const BOUNDS: Bounds = Bounds {
    max_len: 16 << 30,
    patience: Duration::from_mins(10),
    least_change: 600_000,
};
/// What git keeps its own things in.
const OWN: &str = ".git";

/// Writes what `reference` has, or else the branch that the repository says, to the new folder `place`: without git's own
/// things, and with the modes that git knows. Gives what it was, those that it has in it included: addresses, and their commits.
///
/// # Errors
/// When there is no git here, or no such repository or commit; when it passes `bounds`.
pub(super) fn clone(
    url: &str,
    reference: Option<&str>,
    place: &Path,
    bounds: &Bounds,
) -> Result<Vec<(String, String)>, FetchError> {
    let reference = reference.unwrap_or("HEAD");
    let git = |arguments: &[&str]| git(url, place, bounds, arguments);
    let failed = |reason: String| FetchError {
        code: ExitCode::Failed,
        message: format!("cannot fetch {url}: {reason}"),
        help: "",
    };
    fs::create_dir(place).map_err(|error| failed(error.to_string()))?;
    git(&["init", "--quiet"])?.map_err(failed)?;
    let target = match git(&["fetch", "--quiet", "--no-tags", "--depth=1", "--", url, reference])? {
        Ok(_) => "FETCH_HEAD",
        // Not every server lets single commits be fetched: then all that it has, if it is there at all.
        Err(first) => {
            let all = [
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
                "+HEAD:refs/gantry/head",
            ];
            // The new repository's own branch may be called as one of them.
            let fetch = ["fetch", "--quiet", "--update-head-ok", "--", url];
            if git(&[&fetch[..], &all].concat())?.is_err() {
                return Err(FetchError {
                    code: ExitCode::Unreachable,
                    message: format!("cannot fetch {reference} of {url}: {first}"),
                    help: "look at the address; a repository that is not public needs git's credentials on this machine",
                });
            }
            if reference == "HEAD" {
                "refs/gantry/head"
            } else {
                reference
            }
        }
    };
    let checkout = [
        "-c",
        "advice.detachedHead=false",
        "checkout",
        "--quiet",
        "--detach",
        target,
    ];
    git(&checkout)?.map_err(|reason| FetchError {
        code: ExitCode::Input,
        message: format!("{url} has no {reference}: {reason}"),
        help: "write a branch, tag or commit behind the #",
    })?;
    let commit = git(&["rev-parse", "HEAD"])?.map_err(failed)?;
    let mut commits = vec![(url.to_owned(), commit)];
    if place.join(".gitmodules").exists() {
        let update = [
            "submodule",
            "--quiet",
            "update",
            "--init",
            "--recursive",
            "--depth=1",
        ];
        git(&update)?.map_err(failed)?;
        // ` COMMIT PATH (what git calls it)`, one a line.
        let inner = git(&["submodule", "status", "--recursive"])?.map_err(failed)?;
        commits.extend(inner.lines().filter_map(|line| {
            let mut words = line.trim_start_matches([' ', '+', '-']).split(' ');
            let (commit, path) = (words.next()?, words.next()?);
            Some((format!("{url}#{path}"), commit.to_owned()))
        }));
    }
    settle(place).map_err(|error| failed(error.to_string()))?;
    Ok(commits)
}

/// Runs git in `folder`, for what is at `url`, and gives what it printed; the inner error is what it said when it failed.
fn git(
    url: &str,
    folder: &Path,
    bounds: &Bounds,
    arguments: &[&str],
) -> Result<Result<String, String>, FetchError> {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(folder)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false"])
        .args(PATIENCE)
        .args(arguments)
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    for name in OF_ANOTHER_REPOSITORY {
        command.env_remove(name);
    }
    if !user_has_ssh_command() {
        command.env("GIT_SSH_COMMAND", SSH);
    }
    let ran = watched::run(&mut command, folder, bounds);
    let ended = ran.map_err(|error| FetchError {
        code: ExitCode::Input,
        message: match error.kind() {
            io::ErrorKind::NotFound => "there is no git on this machine".to_owned(),
            _ => format!("cannot run git: {error}"),
        },
        help: "install git, or clone the repository into the build context and COPY it from there",
    })?;
    let output = match ended {
        Ended::Itself(said) => said,
        Ended::TooLarge => {
            return Err(FetchError {
                code: ExitCode::Input,
                message: format!("{url} takes more than {} GiB", bounds.max_len >> 30),
                help: "nothing of it was kept; fetch what is needed of it into the build context and COPY it from there",
            });
        }
        Ended::TooLoud => {
            return Err(FetchError {
                code: ExitCode::Input,
                message: format!(
                    "cannot fetch {url}: git says more than {} MiB about it",
                    MAX_SAID_LEN >> 20
                ),
                help: "see what it says: `git clone` prints it",
            });
        }
        Ended::Stuck => {
            return Err(FetchError {
                code: ExitCode::Unreachable,
                message: format!(
                    "cannot fetch {url}: nothing moved any more for {} s",
                    bounds.patience.as_secs()
                ),
                help: "run the same command again, or fetch it into the build context and COPY it from there",
            });
        }
    };
    if output.status.success() {
        return Ok(Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let is_cause = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ");
    let cause = said.lines().rfind(is_cause);
    let last = cause.or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
    let shown = last
        .unwrap_or("git failed")
        .trim_start_matches("fatal: ")
        .chars()
        .filter(|c| !c.is_control());
    Ok(Err(shown.take(MAX_SHOWN).collect()))
}

/// Whether the user says how ssh is called.
fn user_has_ssh_command() -> bool {
    let in_environment = ["GIT_SSH_COMMAND", "GIT_SSH"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some());
    in_environment
        || Command::new("git")
            .args(["config", "--get", "core.sshCommand"])
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
}

/// Removes git's own things, and gives everything the modes that git knows: those on disk depend on a umask.
fn settle(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if entry.file_name() == OWN {
            if kind.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        } else if kind.is_dir() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            settle(&path)?;
        } else if kind.is_file() {
            let runs = entry.metadata()?.permissions().mode() & 0o100 != 0;
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }),
            )?;
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_says_nothing_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("git://{}/a.git", silent.local_addr().unwrap());
        let impatient = Bounds {
            patience: Duration::from_secs(1),
            ..BOUNDS
        };
        let error = clone(&url, None, &folder.path().join("a"), &impatient).unwrap_err();
        assert_eq!(error.code, ExitCode::Unreachable, "{error:?}");
        assert!(
            error.message.contains("nothing moved any more for 1 s"),
            "{error:?}"
        );
    }

    #[test]
    fn a_repository_that_is_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let narrow = Bounds { max_len: 1, ..BOUNDS };
        let url = "git://127.0.0.1:9/a.git";
        let error = clone(url, None, &folder.path().join("a"), &narrow).unwrap_err();
        assert_eq!(error.code, ExitCode::Input, "{error:?}");
        assert!(
            error.message.starts_with(&format!("{url} takes more than")),
            "{error:?}"
        );
    }
}
