//! This module owns [`Scope`]: the variables at one point of a Kubefile, and how words are filled in with them.

use std::collections::{BTreeMap, BTreeSet};

use gantry_store::Platform;

use crate::clusterfile::spelling::closest;
use crate::clusterfile::{Mistake, tree::Span};

use super::kubefile::{Otherwise, Piece, Word};
use super::run::DEFAULT_PATH;

/// The names every Kubefile may use, after the platform that is built for and the one that is built on.
fn predefined(platform: &Platform) -> [(&'static str, String); 8] {
    let build = Platform::host();
    [
        ("ARCH", platform.architecture.clone()),
        ("TARGETARCH", platform.architecture.clone()),
        ("TARGETOS", platform.os.clone()),
        ("TARGETVARIANT", platform.variant.clone().unwrap_or_default()),
        ("TARGETPLATFORM", platform.to_string()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDOS", build.os.clone()),
        ("BUILDPLATFORM", build.to_string()),
    ]
}

/// Arguments that every Kubefile has without an ARG, as docker and buildah have them: RUN finds those that are given. What the image is
/// does not depend on them.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

fn is_proxy(name: &str) -> bool {
    PROXIES
        .iter()
        .any(|proxy| name == *proxy || name == proxy.to_ascii_lowercase())
}

/// The variables at one point of the Kubefile.
pub(super) struct Scope<'a> {
    values: BTreeMap<String, String>,
    /// Names that ARG declared.
    args: BTreeSet<String>,
    build_args: &'a BTreeMap<String, String>,
    /// Whether every variable there is, is known.
    complete: bool,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Scope<'a> {
    /// The variables before the first directive; mistakes go into `mistakes`.
    pub(super) fn new(
        platform: &Platform,
        build_args: &'a BTreeMap<String, String>,
        mistakes: &'a mut Vec<Mistake>,
    ) -> Self {
        let mut scope = Self {
            values: BTreeMap::new(),
            args: BTreeSet::new(),
            build_args,
            complete: true,
            mistakes,
        };
        scope.set_platform(platform);
        scope
    }
}

impl Scope<'_> {
    /// Notes a mistake.
    pub(super) fn mistake(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// The platform that is built for.
    pub(super) fn set_platform(&mut self, platform: &Platform) {
        for (name, value) in predefined(platform) {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// Whether every variable there is, is known.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// ARG.
    pub(super) fn declare(&mut self, name: &Word, default: Option<&Word>) {
        let Some(name) = self.name(name) else { return };
        let default = default.map(|default| self.fill_in(default));
        let value = self.build_args.get(&name).cloned().or(default);
        // Without a value the ARG exists and is empty, as docker has it.
        let value = value
            .or_else(|| self.values.get(&name).cloned())
            .unwrap_or_default();
        self.values.insert(name.clone(), value);
        self.args.insert(name);
    }

    /// The name of a variable that is being given a value.
    pub(super) fn name(&mut self, word: &Word) -> Option<String> {
        let name = word.plain().unwrap_or_default();
        let mut bytes = name.bytes();
        let legal = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if legal {
            return Some(name);
        }
        let mistake = Mistake::new(
            word.span.clone(),
            format!("{name:?} cannot be the name of a variable"),
        );
        self.mistake(mistake.help("a name is letters, digits and '_', and does not start with a digit"));
        None
    }

    /// Arguments that need no ARG, and were given.
    pub(super) fn proxies(&self) -> BTreeMap<String, String> {
        let given = self.build_args.iter();
        let given = given.filter(|(name, _)| is_proxy(name) && !self.values.contains_key(*name));
        given.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The value of a variable, if there is one of this name.
    fn value(&self, name: &str) -> Option<&str> {
        let predefined = || match name {
            "PATH" => Some(DEFAULT_PATH),
            _ if is_proxy(name) => Some(self.build_args.get(name).map_or("", String::as_str)),
            _ => None,
        };
        self.values.get(name).map(String::as_str).or_else(predefined)
    }

    /// The variables and their values.
    pub(super) fn values(&self) -> &BTreeMap<String, String> {
        &self.values
    }

    /// Gives a variable its value: ENV, and what the base's environment has.
    pub(super) fn set(&mut self, name: String, value: String) {
        self.values.insert(name, value);
    }

    /// Whether every variable there is, is known: not when the base cannot be found.
    pub(super) fn set_complete(&mut self, complete: bool) {
        self.complete = complete;
    }

    /// A word of COPY's sources; none when a variable in it has no value, which is one mistake and not also a file
    /// that is not there.
    pub(super) fn fill_in_source(&mut self, word: &Word) -> Option<String> {
        let mistakes = self.mistakes.len();
        let source = self.fill_in(word);
        (self.mistakes.len() == mistakes && (self.complete || word.plain().is_some())).then_some(source)
    }

    /// The word with every variable filled in; one that is not known is a mistake.
    pub(super) fn fill_in(&mut self, word: &Word) -> String {
        let mut text = String::new();
        for piece in &word.pieces {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::Variable {
                    name,
                    span,
                    otherwise,
                } => {
                    let value = self.value(name);
                    let filled = value.is_some_and(|value| !value.is_empty());
                    match (otherwise, value) {
                        (Otherwise::Default(default), _) if !filled => text.push_str(default),
                        (Otherwise::Instead(instead), _) => text.push_str(if filled { instead } else { "" }),
                        (_, Some(value)) => text.push_str(value),
                        (_, None) => self.unknown(name, span),
                    }
                }
            }
        }
        text
    }

    fn unknown(&mut self, name: &str, span: &Span) {
        if !self.complete {
            return;
        }
        let mistake = Mistake::new(span.clone(), format!("there is no variable {name}"));
        let near = closest(name, self.values.keys().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean ${near}?"),
            None => format!("declare it before with `ARG {name}=…`, or write \\$ for the character itself"),
        };
        self.mistakes.push(mistake.help(help));
    }

    /// A CMD runs on the cluster's first master, where its shell knows ENV but not ARG: those are filled in now,
    /// everything else stays for the shell.
    pub(super) fn fill_in_args(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            filled.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            let inner = after.strip_prefix('{').unwrap_or(after);
            let len = inner
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(inner.len());
            let braced = inner.len() < after.len();
            let whole = if braced { len + 2 } else { len };
            let closed = !braced || inner[len..].starts_with('}');
            match self.values.get(&inner[..len]) {
                Some(value) if closed && self.args.contains(&inner[..len]) => {
                    filled.push_str(value);
                    rest = &after[whole..];
                }
                _ => {
                    filled.push('$');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    /// What to say of each `--build-arg` that no ARG takes: a slip of the finger, or meant for another Kubefile.
    pub(super) fn unused_build_args(&self) -> Vec<String> {
        let unused = self.build_args.keys();
        let unused = unused.filter(|name| !self.args.contains(*name) && !is_proxy(name));
        let said = unused.map(|name| {
            let near = closest(name, self.args.iter().map(String::as_str));
            let meant = near.map_or(String::new(), |near| {
                format!("; did you mean --build-arg {near}=…?")
            });
            format!("--build-arg {name} is not used: no ARG declares it{meant}")
        });
        said.collect()
    }
}
