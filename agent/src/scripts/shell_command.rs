//! Commands that no image brings. They are read from a file that is root's alone: they may hold secrets, and command lines
//! can be read by everybody on the host.

use std::path::Path;

use gantry_model::{ApplicationLaunch, CommandOrigin, ShellCommand};

use super::command::with_kubeconfig;
use super::{Program, SECRET, SecretFile, check_environment};

/// Whether `command` is within bounds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_shell_command(command: &ShellCommand) -> Result<(), String> {
    let (name, is_name) = match &command.origin {
        CommandOrigin::Plugin(name) => (name.as_str(), ShellCommand::is_name(name)),
        // It is that of a folder, too.
        CommandOrigin::Application(name) => (name.as_str(), ApplicationLaunch::is_name(name)),
        CommandOrigin::Listed(_) => ("listed", true),
    };
    if !is_name {
        let name: String = name.chars().take(ShellCommand::MAX_NAME_LEN).collect();
        return Err(format!(
            "{name:?} cannot be the name of a plugin or an application"
        ));
    }
    ShellCommand::check_text(&command.text).map_err(|why| format!("{} {why}", command.title()))?;
    check_environment(command.env.len(), &command.env)
}

/// How `command` is run in the rootfs at `rootfs`, by a step whose folder is `folder`.
pub(crate) fn shell_command(command: &ShellCommand, rootfs: &Path, folder: &Path) -> Program {
    let file = folder.join(SECRET);
    Program::bash(
        &command.cluster,
        command.title(),
        rootfs,
        vec![file.to_string_lossy().into_owned()],
        &with_kubeconfig(&command.env),
        command.time_limit_s,
    )
    .with_secret(Some(SecretFile {
        path: file,
        content: command.text.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use gantry_model::CommandMoment;

    use super::*;

    fn command() -> ShellCommand {
        ShellCommand {
            cluster: "demo".parse().unwrap(),
            origin: CommandOrigin::Plugin("dns".into()),
            when: CommandMoment::BeforeInit,
            text: "echo hunter2\n".into(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            time_limit_s: 60,
        }
    }

    #[test]
    fn the_text_is_in_a_file_and_not_in_the_command_line() {
        let program = shell_command(&command(), Path::new("/r"), Path::new("/s"));
        assert_eq!(program.command.words, ["/s/secret"]);
        assert_eq!(program.command.folder, Path::new("/r"));
        assert_eq!(program.command.env["A"], "1");
        assert_eq!(program.secret.unwrap().content, "echo hunter2\n");
    }

    #[test]
    fn odd_names_texts_and_variables_are_refused() {
        check_shell_command(&command()).unwrap();
        let name = CommandOrigin::Plugin("a\nb".into());
        let odd = [
            ShellCommand {
                origin: name,
                ..command()
            },
            ShellCommand {
                text: String::new(),
                ..command()
            },
            ShellCommand {
                env: [("A=B".to_owned(), String::new())].into(),
                ..command()
            },
        ];
        for odd in odd {
            assert!(check_shell_command(&odd).is_err(), "{odd:?}");
        }
    }
}
