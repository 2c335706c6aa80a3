//! What of a Clusterfile is not kept: passwords, and what may hold some. A mark stands in their place, and a file in which it stands
//! is not applied: hosts would be given it.

use gantry_model::CommandMoment;

use super::tree::{self, Node};
use super::validate::plugin::acts_at;
use super::{Mistake, Mistakes, Source, refused};

/// What stands for a value that is not kept.
const MASK: &str = "***";

/// Names of fields whose values are nobody's business.
const SECRET_FIELDS: [&str; 3] = ["passwd", "pkPasswd", "password"];

/// Those of them that are read by nobody: hosts are not reached by ssh.
const UNREAD_FIELDS: [&str; 2] = ["passwd", "pkPasswd"];

/// Names of fields that list shell lines, which may hold passwords.
const COMMAND_FIELDS: [&str; 2] = ["cmd", "cmds"];

/// Names of fields that list variables as `NAME=VALUE`.
const VARIABLE_FIELDS: [&str; 2] = ["env", "cmd_args"];

/// What names of variables have in them whose values are nobody's business, in capitals.
const SECRET_WORDS: [&str; 5] = ["PASS", "SECRET", "TOKEN", "CREDENTIAL", "KEY"];

impl Source {
    /// The text with every password replaced: what may be kept.
    #[must_use]
    pub fn without_secrets(&self) -> String {
        let mut spans: Vec<tree::Span> = Vec::new();
        for document in tree::parse(&self.text).0 {
            secrets(&document, &mut |_, value| spans.push(value.span.clone()));
        }
        let mut text = self.text.clone();
        spans.sort_by_key(|span: &tree::Span| span.start);
        spans.dedup();
        for span in spans.into_iter().rev().filter(|span| !span.is_empty()) {
            // A block's last line end stays: what follows begins a line of its own.
            let end = span.start + text[span.clone()].trim_end().len();
            text.replace_range(span.start..end, &format!("\"{MASK}\""));
        }
        text
    }

    /// Refuses a file that was kept without what it needs. Mistakes are printed on standard error.
    ///
    /// # Errors
    /// When the mark stands where hosts would be given it.
    pub fn refuse_masked(&self) -> anyhow::Result<()> {
        let mistakes = self.masked(|_| true);
        if mistakes.is_empty() {
            return Ok(());
        }
        refused(Mistakes::new(&self.file, &self.text, mistakes))
    }

    /// Refuses a file that was kept without what its plugins run at one of `moments`. Mistakes are printed on standard error.
    ///
    /// # Errors
    /// When the mark stands where hosts would run it.
    pub fn refuse_masked_plugins(&self, moments: &[CommandMoment]) -> anyhow::Result<()> {
        let mistakes = self.masked(|document| acts_at(document, moments));
        if mistakes.is_empty() {
            return Ok(());
        }
        refused(Mistakes::new(&self.file, &self.text, mistakes))
    }

    fn masked(&self, of: impl Fn(&Node) -> bool) -> Vec<Mistake> {
        let mut mistakes: Vec<Mistake> = Vec::new();
        for document in tree::parse(&self.text).0.iter().filter(|document| of(document)) {
            secrets(document, &mut |name, value| {
                // In a block the mark keeps its quotes.
                let text = value.text().map(|text| text.trim().trim_matches('"'));
                let is_told = mistakes.iter().any(|mistake| mistake.span == value.span);
                if text != Some(MASK) || is_told || UNREAD_FIELDS.contains(&name) {
                    return;
                }
                let message = format!(
                    "`{name}` is {MASK}, which stands for what is not kept: this is a copy without secrets and Configs"
                );
                let help = "write here what belongs here, or use the file that the copy was made of (`gantry run --print` makes one)";
                mistakes.push(Mistake::new(value.span.clone(), message).help(help));
            });
        }
        mistakes
    }
}

/// Whether `item` gives a value to a variable whose name says that it is a secret, or did.
fn is_secret_variable(item: &Node) -> bool {
    let Some(text) = item.text() else { return false };
    let name = text.split_once('=').map(|(name, _)| name.to_uppercase());
    let name = name.unwrap_or_default();
    text == MASK || SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Gives `take` every value below `node` that is not kept, and the name of its field.
fn secrets(node: &Node, take: &mut impl FnMut(&str, &Node)) {
    // Nobody knows what an image makes of it, or what a command says.
    if matches!(node.get("kind").and_then(Node::text), Some("Config" | "Plugin"))
        && let Some(data) = node.get("spec").and_then(|spec| spec.get("data"))
    {
        take("data", data);
    }
    // Files of applications.
    if let (Some(_), Some(data)) = (node.get("path"), node.get("data")) {
        take("data", data);
    }
    for entry in node.entries() {
        let (name, value) = (entry.key.as_str(), &entry.value);
        if SECRET_FIELDS.contains(&name) {
            take(name, value);
        } else if COMMAND_FIELDS.contains(&name) {
            // Line by line: it stays a list.
            value.items().iter().for_each(|line| take(name, line));
        } else if VARIABLE_FIELDS.contains(&name) {
            let items = value.items().iter();
            items
                .filter(|item| is_secret_variable(item))
                .for_each(|item| take(name, item));
        } else {
            secrets(value, take);
        }
    }
    node.items().iter().for_each(|item| secrets(item, take));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_kept() {
        let text = "spec:\n  ssh: { user: root, passwd: hunter2 }\n  env: [ Zone=a, DbPassword=hunter2 ]\n  hosts:\n    - ssh:\n        \
                    pkPasswd: 'geheim'\n\
                    ---\nkind: Config\nspec:\n  data: |\n    key: hunter2\n  path: etc/db\n";
        let source = Source {
            file: "Clusterfile".into(),
            text: text.into(),
        };
        let kept = source.without_secrets();
        assert!(!kept.contains("hunter2") && !kept.contains("geheim"), "{kept}");
        assert!(
            kept.contains("user: root") && kept.contains("Zone=a") && kept.contains("path: etc/db"),
            "{kept}"
        );
        let (documents, mistakes) = tree::parse(&kept);
        assert!(documents.len() == 2 && mistakes.is_empty(), "{kept}");
    }

    #[test]
    fn lines_of_commands_are_not_kept() {
        let text = "kind: Cluster\nspec:\n  cmd: [login hunter2]\n  cmds:\n    - |\n      login hunter2\n    - login hunter2 # why\n  image: a\n\
                    ---\nkind: Application\nspec:\n  configs:\n    - name: web\n      launch:\n        cmds: ['login hunter2']\n";
        let source = Source {
            file: "Clusterfile".into(),
            text: text.into(),
        };
        let kept = source.without_secrets();
        assert!(!kept.contains("hunter2"), "{kept}");
        assert!(kept.contains("image: a") && kept.contains("name: web"), "{kept}");
        let (documents, mistakes) = tree::parse(&kept);
        assert!(documents.len() == 2 && mistakes.is_empty(), "{kept}");
        let lines = documents[0].get("spec").and_then(|spec| spec.get("cmds"));
        assert_eq!(lines.map(|lines| lines.items().len()), Some(2), "{kept}");
    }

    #[test]
    fn a_copy_without_secrets_is_not_applied_and_every_place_is_named() {
        let text = "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: a\n  ssh: { passwd: x }\n  \
                    env: [ Zone=a, DbPassword=x ]\n  cmd: [ login x ]\n\
                    ---\nkind: Config\nspec:\n  path: etc/db\n  data: |\n    key: x\n";
        let source = |text: &str| Source {
            file: "Clusterfile".into(),
            text: text.into(),
        };
        source(text).refuse_masked().unwrap();
        let kept = source(&source(text).without_secrets());
        let mistakes = Mistakes::new("Clusterfile", &kept.text, kept.masked(|_| true));
        let places: Vec<String> = mistakes
            .list()
            .iter()
            .map(|mistake| mistakes.place(mistake))
            .collect();
        assert_eq!(
            places,
            ["Clusterfile:7:18", "Clusterfile:8:10", "Clusterfile:14:5"]
        );
        assert_eq!(kept.without_secrets(), kept.text, "it is kept as it is");
        let error = kept.refuse_masked().unwrap_err();
        let failure = error.downcast_ref::<crate::exit::Failure>().unwrap();
        assert_eq!(failure.code(), gantry_model::ExitCode::Input);
        // A cluster can be taken down with it, unless plugins would be run that are not there.
        let clean = [CommandMoment::BeforeClean, CommandMoment::AfterClean];
        kept.refuse_masked_plugins(&clean).unwrap();
        for (action, is_run) in [
            ("PreClean", true),
            ("post-init-host | post-uninstall", true),
            ("PostInstall", false),
            ("post-init-host", false),
        ] {
            let plugin = format!("kind: Plugin\nspec:\n  type: SHELL\n  action: {action}");
            let plugin = source(&text.replace("kind: Config\nspec:", &plugin));
            plugin.refuse_masked_plugins(&clean).unwrap();
            let kept = source(&plugin.without_secrets());
            assert_eq!(kept.refuse_masked_plugins(&clean).is_err(), is_run, "{action}");
        }
        // What nobody reads may stand for anything, and what somebody wrote is his.
        source(
            &text
                .replace("passwd: x", "passwd: '***'")
                .replace("key: x", "key: ***"),
        )
        .refuse_masked()
        .unwrap();
    }
}
