//! Proof of a command of a plugin that an image brings: the file on this host is the image's, and the command is in it.

use std::path::Path;

use gantry_model::{Digest, ImagePlugin};
use gantry_store::Store;

use super::proof::proved_content;
use super::{Program, check_shell_command, shell_command};

/// Whether `plugin` is within bounds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_image_plugin(plugin: &ImagePlugin) -> Result<(), String> {
    if !ImagePlugin::is_file(&plugin.file) {
        return Err(format!("{:?} is no file of plugins", plugin.file));
    }
    check_shell_command(&plugin.command)
}

/// How `plugin` is run in the rootfs at `rootfs`, whose generation has these layers, by a step whose folder is `folder`.
///
/// # Errors
/// When its file is not the image's, or the command does not stand in it.
pub(crate) fn image_plugin(
    plugin: &ImagePlugin,
    store: &Store,
    layers: &[Digest],
    rootfs: &Path,
    folder: &Path,
) -> Result<Program, String> {
    let (title, file) = (plugin.command.title(), &plugin.file);
    let content = proved_content(store, layers, rootfs, file, ImagePlugin::MAX_FILE_LEN)
        .map_err(|error| format!("{title} is not run: {error}"))?;
    if !ImagePlugin::stands_in(&plugin.command.text, &String::from_utf8_lossy(&content)) {
        return Err(format!(
            "{title} is not run: {file} of the image on this host has another command; apply again"
        ));
    }
    Ok(shell_command(&plugin.command, rootfs, folder))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gantry_model::{CommandMoment, CommandOrigin, ShellCommand};

    use super::*;
    use crate::test_layers::{Entry, unpacked_entries};

    const FILE: &str = "plugins/dns.yaml";

    fn plugin(text: &str) -> ImagePlugin {
        ImagePlugin {
            command: ShellCommand {
                cluster: "demo".parse().unwrap(),
                origin: CommandOrigin::Plugin("dns".into()),
                when: CommandMoment::BeforeInit,
                text: text.into(),
                env: [].into(),
                time_limit_s: 60,
            },
            file: FILE.into(),
        }
    }

    #[test]
    fn only_what_stands_in_the_images_own_file_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("gantry")).unwrap();
        let content = "kind: Plugin\nspec:\n  data: |\n    echo a\n";
        let layer = unpacked_entries(&store, &[Entry::File(FILE, content)]).digest;
        let rootfs = folder.path().join("rootfs");
        fs::create_dir_all(rootfs.join("plugins")).unwrap();
        let on_host = |content: &str| fs::write(rootfs.join(FILE), content).unwrap();
        let run = |text: &str| image_plugin(&plugin(text), &store, &[layer], &rootfs, Path::new("/steps/1"));
        on_host(content);
        let program = run("echo a\n").unwrap();
        assert_eq!(program.secret.unwrap().content, "echo a\n");
        let other = run("echo b\n").unwrap_err();
        assert!(
            other.contains("plugin dns is not run: plugins/dns.yaml of the image"),
            "{other}"
        );
        on_host("kind: Plugin\nspec:\n  data: |\n    echo b\n");
        for text in ["echo a\n", "echo b\n"] {
            let changed = run(text).unwrap_err();
            assert!(changed.contains("is not the image's file"), "{changed}");
        }
        let elsewhere = ImagePlugin {
            file: "plugins/../etc/dns.yaml".into(),
            ..plugin("echo a\n")
        };
        check_image_plugin(&plugin("echo a\n")).unwrap();
        check_image_plugin(&elsewhere).unwrap_err();
    }
}
