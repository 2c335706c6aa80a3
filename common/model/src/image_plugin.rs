//! This module owns [`ImagePlugin`]: a command of a plugin that an image brings, and the file that proves it.

use serde::{Deserialize, Serialize};

use crate::ShellCommand;

/// A command that stands in a file of a verified image, so that no host has to allow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePlugin {
    /// The command.
    pub command: ShellCommand,
    /// The file, below the rootfs; see [`ImagePlugin::is_file`].
    pub file: String,
}

impl ImagePlugin {
    /// The folder of the rootfs where plugins are.
    pub const FOLDER: &str = "plugins/";
    /// Longest file of plugins, in bytes.
    pub const MAX_FILE_LEN: u64 = 256 << 10;

    /// Whether plugins are read from the file at `path` of a rootfs.
    #[must_use]
    pub fn is_file(path: &str) -> bool {
        let name = path.strip_prefix(Self::FOLDER);
        let name = name.and_then(|name| name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")));
        name.is_some_and(|name| {
            let odd = |c: char| c == '/' || c.is_control();
            !name.is_empty() && !name.contains(odd)
        })
    }

    /// Whether `text` is all of a block that stands in `file` as the value of `data`, written below `data: |`. So much of
    /// YAML can be told by its lines; what is written otherwise is no proof.
    #[must_use]
    pub fn stands_in(text: &str, file: &str) -> bool {
        let lines: Vec<&str> = file.lines().collect();
        let mut keys = (0..lines.len()).filter(|&at| is_key_of_block(lines[at]));
        keys.any(|at| block(indent(lines[at]), &lines[at + 1..]).trim_end() == text.trim_end())
    }
}

/// Whether `line` is `data: |`, with what YAML allows behind it: how the block ends, a comment.
fn is_key_of_block(line: &str) -> bool {
    let line = line.trim();
    let line = line.strip_prefix("- ").map_or(line, str::trim_start);
    let value = ["data:", "\"data\":", "'data':"]
        .iter()
        .find_map(|key| line.strip_prefix(key));
    let Some(header) = value.and_then(|value| value.trim_start().strip_prefix('|')) else {
        return false;
    };
    let rest = header.trim_start_matches(['+', '-']);
    rest.is_empty() || (rest.starts_with(char::is_whitespace) && rest.trim_start().starts_with('#'))
}

/// The lines of a block whose key is indented by `key` spaces, without their own indentation.
fn block(key: usize, lines: &[&str]) -> String {
    let is_empty = |line: &&&str| line.trim().is_empty();
    let own = lines
        .iter()
        .find(|line| !is_empty(line))
        .map_or(0, |line| indent(line));
    if own <= key {
        return String::new();
    }
    let inside = lines
        .iter()
        .take_while(|line| is_empty(line) || indent(line) >= own);
    let mut text = String::new();
    for line in inside {
        text.push_str(line.get(own..).unwrap_or_default());
        text.push('\n');
    }
    text
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "kind: Plugin\nmetadata: { name: dns }\nspec:\n  type: SHELL\n  data: |- # why\n    if true; then\n      \
                        echo a\n\n    fi\n  action: PreInit\n---\nkind: Plugin\nspec:\n  data: |\n    rm -rf /tmp/x\n    sync\n\n";

    #[test]
    fn a_whole_block_stands_in_its_file_and_a_part_of_it_does_not() {
        assert!(ImagePlugin::stands_in("if true; then\n  echo a\n\nfi", FILE));
        assert!(ImagePlugin::stands_in("rm -rf /tmp/x\nsync\n", FILE));
        for other in [
            "",
            "rm -rf /tmp/x\n",
            "sync\n",
            "echo a",
            "if true; then\necho a\n\nfi",
            "action: PreInit",
            "rm -rf /tmp/x\nsync\nmore\n",
        ] {
            assert!(!ImagePlugin::stands_in(other, FILE), "{other:?}");
        }
    }

    #[test]
    fn what_is_not_written_as_a_block_is_no_proof() {
        for file in [
            "spec: { data: sync }",
            "data: >\n  sync\n",
            "data: |2\n    sync\n",
            "metadata: |\n  sync\n",
            "data: |\nsync\n",
        ] {
            assert!(!ImagePlugin::stands_in("sync\n", file), "{file:?}");
        }
        assert!(ImagePlugin::stands_in("sync\n", "- data: |\n    sync\n"));
    }

    #[test]
    fn plugins_are_files_of_their_folder() {
        assert!(ImagePlugin::is_file("plugins/dns.yaml") && ImagePlugin::is_file("plugins/10.yml"));
        for odd in [
            "plugins/.yaml",
            "plugins/a/b.yaml",
            "plugins/dns.so",
            "plugin/dns.yaml",
            "plugins/a\n.yaml",
            "/plugins/a.yaml",
        ] {
            assert!(!ImagePlugin::is_file(odd), "{odd:?}");
        }
    }
}
