//! This module owns [`Applications`]: what the file says about the applications of its image.

use std::collections::BTreeMap;

use gantry_store::extension::{APPLICATIONS, shell_word};

/// What the file says about the applications of its image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applications {
    /// The names of those that are launched, in order; none is what the image launches.
    pub launched: Option<Vec<String>>,
    /// What it says about single ones, by name.
    pub settings: BTreeMap<String, ApplicationSettings>,
}

/// What the file says about one application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplicationSettings {
    /// Environment over what the image has for it.
    pub env: BTreeMap<String, String>,
    /// Commands that launch it in the place of the image's, where the agent allows it.
    pub commands: Vec<String>,
}

impl ApplicationSettings {
    /// What bash is given to launch the application `name`: each command in its folder, as long as the one before went
    /// well. None when the image says how.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        let command = |command: &String| format!("{{ {}\n}} || exit\n", command.trim_end());
        let commands: String = self.commands.iter().map(command).collect();
        let folder = shell_word(&folder(name));
        (!commands.is_empty()).then(|| format!("cd {folder} || exit\n{commands}"))
    }
}

/// The folder of the application `name` in the rootfs, with a `/` at the end.
pub(super) fn folder(name: &str) -> String {
    format!("{APPLICATIONS}/{name}/")
}

/// The application in whose folder `path` of the rootfs lies.
pub(crate) fn application_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix(APPLICATIONS)?.strip_prefix('/')?;
    Some(below.split_once('/')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_runs_in_the_applications_folder() {
        let mut settings = ApplicationSettings::default();
        assert_eq!(settings.text("web"), None);
        settings.commands = vec!["test -e a && ./up\n".into(), "./check # twice".into()];
        assert_eq!(
            settings.text("web").unwrap(),
            "cd application/apps/web/ || exit\n{ test -e a && ./up\n} || exit\n{ ./check # twice\n} || exit\n"
        );
    }
}
