//! This module owns [`ConfigFile`]: a file of the rootfs as an operator wants it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest path, in bytes.
const MAX_PATH_LEN: usize = 1024;
/// Longest name in a path, in bytes: what Linux file systems hold.
const MAX_NAME_LEN: usize = 255;
/// Folders of a rootfs whose files are run, or served as images: hosts take them from verified images alone.
const OF_IMAGES_ALONE: [&str; 3] = ["bin", "registry", "scripts"];
/// The folder of a rootfs that has the image's applications, some of which are launched by their scripts.
const APPLICATIONS: &str = "application";
/// What names of those scripts end in.
const SCRIPT: &str = ".sh";

/// A file of the rootfs as an operator wants it. What is in it may be secret: it is not in its debug form.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// Path below the rootfs; see [`check_config_path`].
    pub path: String,
    /// All of its text.
    pub content: String,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigFile({}, {} bytes)", self.path, self.content.len())
    }
}

/// Why a path is not one of a [`ConfigFile`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigPathError {
    /// It starts at the host's root.
    #[error("it starts with '/', but it is a path below the rootfs")]
    Absolute,
    /// It leads upwards.
    #[error("it has '..', but it is a path below the rootfs")]
    Upwards,
    /// It has a name that is none.
    #[error("it is not made of names with one '/' between them")]
    Names,
    /// It has a character that no path of an image has.
    #[error("it has a control character")]
    Control,
    /// It is too long.
    #[error("it is longer than {MAX_PATH_LEN} bytes, or a name in it is longer than {MAX_NAME_LEN}")]
    Long,
    /// What is there is for images to say.
    #[error("files in {0}/ come from the image alone: hosts run and serve nothing else")]
    OfImagesAlone(&'static str),
    /// What is there is run.
    #[error("scripts of applications come from the image alone: hosts run no others")]
    Script,
}

/// How names of files end that are read and not run, whatever their mode says: folders that came from elsewhere have all of
/// their files executable.
const DATA: [&str; 5] = [".yaml", ".yml", ".json", ".toml", ".txt"];

/// Whether a file of an application is data by its name.
#[must_use]
pub fn is_data_file(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    DATA.iter().any(|ending| path.ends_with(ending))
}

/// Whether `path` can be that of a [`ConfigFile`]: strictly inside the rootfs, and not where programs, scripts and
/// container images are.
///
/// # Errors
/// Why it cannot.
pub fn check_config_path(path: &str) -> Result<(), ConfigPathError> {
    if path.starts_with('/') {
        return Err(ConfigPathError::Absolute);
    }
    if path.split('/').any(|name| name == "..") {
        return Err(ConfigPathError::Upwards);
    }
    if path.split('/').any(|name| matches!(name, "" | ".")) {
        return Err(ConfigPathError::Names);
    }
    if path.contains(char::is_control) {
        return Err(ConfigPathError::Control);
    }
    if path.len() > MAX_PATH_LEN || path.split('/').any(|name| name.len() > MAX_NAME_LEN) {
        return Err(ConfigPathError::Long);
    }
    let top = path.split('/').next().unwrap_or_default();
    match OF_IMAGES_ALONE.into_iter().find(|folder| *folder == top) {
        Some(folder) => Err(ConfigPathError::OfImagesAlone(folder)),
        // Builds tell scripts by that ending, however it is written.
        None if top == APPLICATIONS && path.to_ascii_lowercase().ends_with(SCRIPT) => {
            Err(ConfigPathError::Script)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_and_away_from_what_is_run() {
        for path in [
            "etc/daemon.json",
            "values.yaml",
            "charts/a/..b/c",
            "etc/bin/x",
            "application/apps/web/bin/x",
            "etc/profile.sh",
        ] {
            assert_eq!(check_config_path(path), Ok(()), "{path}");
        }
        let long = format!("etc/{}", "x".repeat(256));
        for (path, error) in [
            ("/etc/passwd", ConfigPathError::Absolute),
            ("../x", ConfigPathError::Upwards),
            ("etc/..", ConfigPathError::Upwards),
            ("", ConfigPathError::Names),
            ("etc/", ConfigPathError::Names),
            ("./etc/x", ConfigPathError::Names),
            ("etc//x", ConfigPathError::Names),
            ("etc/a\0b", ConfigPathError::Control),
            (long.as_str(), ConfigPathError::Long),
            ("scripts/init.sh", ConfigPathError::OfImagesAlone("scripts")),
            ("bin", ConfigPathError::OfImagesAlone("bin")),
            ("application/apps/web/up.sh", ConfigPathError::Script),
            ("application/apps/web/UP.SH", ConfigPathError::Script),
        ] {
            assert_eq!(check_config_path(path), Err(error), "{path:?}");
        }
    }

    #[test]
    fn what_is_in_a_file_is_not_in_its_debug_form() {
        let file = ConfigFile {
            path: "etc/db".into(),
            content: "hunter2".into(),
        };
        assert_eq!(format!("{file:?}"), "ConfigFile(etc/db, 7 bytes)");
    }
}
