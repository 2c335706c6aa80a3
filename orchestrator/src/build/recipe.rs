//! This module owns [`Recipe`]: a Kubefile with every variable filled in, ready to be carried out.

use std::collections::{BTreeMap, BTreeSet};

use gantry_model::ImageReference;
use gantry_store::{Platform, StoreError};

use crate::clusterfile::spelling::closest;
use crate::clusterfile::{Mistake, tree::Span};

use super::base::BaseImage;
use super::kubefile::{Command, Directive, DirectiveKind, Kubefile, Otherwise, Piece, Word};

/// What to do.
#[derive(Debug)]
pub(super) struct Recipe {
    /// What the image builds on; none for `FROM scratch`.
    pub(super) base: Option<BaseImage>,
    /// The steps, in order.
    pub(super) steps: Vec<Step>,
    /// Environment the image gets, the base's included.
    pub(super) env: Vec<(String, String)>,
    /// Labels the image gets, the base's included.
    pub(super) labels: BTreeMap<String, String>,
    /// Commands that run when the cluster is up, the base's first.
    pub(super) commands: Vec<String>,
}

/// One directive after FROM.
#[derive(Debug)]
pub(super) struct Step {
    /// Where it stands in the Kubefile.
    pub(super) span: Span,
    /// Its text.
    pub(super) text: String,
    /// What it does.
    pub(super) kind: StepKind,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum StepKind {
    /// Copies from the context into a new layer.
    Copy {
        /// What, with its place in the Kubefile.
        sources: Vec<(String, Span)>,
        /// Where to, as written.
        destination: (String, Span),
    },
    /// Runs a command whose writes become a new layer.
    Run {
        /// The command.
        command: Command,
        /// ARG and ENV values at this point.
        env: BTreeMap<String, String>,
    },
    /// Says something about the image; makes no layer.
    Note,
}

/// Fills in the variables of `kubefile`; every mistake goes into `mistakes`.
pub(super) fn prepare(
    kubefile: &Kubefile,
    build_args: &BTreeMap<String, String>,
    platform: &Platform,
    find_base: &dyn Fn(&ImageReference) -> Result<BaseImage, StoreError>,
    mistakes: &mut Vec<Mistake>,
) -> Recipe {
    let mut scope = Scope {
        values: predefined(platform),
        args: BTreeSet::new(),
        build_args,
        complete: true,
        mistakes,
    };
    let mut recipe = Recipe {
        base: None,
        steps: Vec::new(),
        env: Vec::new(),
        labels: BTreeMap::new(),
        commands: Vec::new(),
    };
    for directive in &kubefile.directives {
        let kind = take(directive, &mut recipe, &mut scope, find_base);
        if let Some(kind) = kind {
            let (span, text) = (directive.span.clone(), directive.text.clone());
            recipe.steps.push(Step { span, text, kind });
        }
    }
    scope.check_build_args(kubefile);
    recipe
}

fn take(
    directive: &Directive,
    recipe: &mut Recipe,
    scope: &mut Scope<'_>,
    find_base: &dyn Fn(&ImageReference) -> Result<BaseImage, StoreError>,
) -> Option<StepKind> {
    match &directive.kind {
        DirectiveKind::From(image) => {
            from(image, recipe, scope, find_base);
            return None;
        }
        DirectiveKind::Arg(declarations) => {
            declarations
                .iter()
                .for_each(|(name, default)| scope.declare(name, default.as_ref()));
        }
        DirectiveKind::Env(pairs) => {
            for (name, value) in pairs {
                let Some(name) = scope.name(name) else { continue };
                let value = scope.fill_in(value);
                scope.values.insert(name.clone(), value.clone());
                match recipe.env.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, old)) => *old = value,
                    None => recipe.env.push((name, value)),
                }
            }
        }
        DirectiveKind::Label(pairs) => {
            for (name, value) in pairs {
                let name = scope.fill_in(name);
                recipe.labels.insert(name, scope.fill_in(value));
            }
        }
        DirectiveKind::Cmd(command) => recipe.commands.push(match command {
            Command::Shell(text) => scope.fill_in_args(text),
            Command::Arguments(arguments) => shell_line(arguments),
        }),
        DirectiveKind::Run(command) => {
            return Some(StepKind::Run {
                command: command.clone(),
                env: scope.values.clone(),
            });
        }
        DirectiveKind::Copy { sources, destination } => {
            let mut filled = Vec::new();
            for word in sources {
                let mistakes = scope.mistakes.len();
                let source = scope.fill_in(word);
                // A source with an unknown variable is one mistake, not also a file that is not there.
                if scope.mistakes.len() == mistakes && (scope.complete || word.plain().is_some()) {
                    filled.push((source, word.span.clone()));
                }
            }
            return Some(StepKind::Copy {
                sources: filled,
                destination: (scope.fill_in(destination), destination.span.clone()),
            });
        }
    }
    Some(StepKind::Note)
}

fn from(
    image: &Word,
    recipe: &mut Recipe,
    scope: &mut Scope<'_>,
    find_base: &dyn Fn(&ImageReference) -> Result<BaseImage, StoreError>,
) {
    let name = scope.fill_in(image);
    if name == "scratch" {
        return;
    }
    // From here on a variable may come from the base's environment: only a base that is there can say.
    scope.complete = false;
    if name.is_empty() {
        return scope.mistake(Mistake::new(
            image.span.clone(),
            "this is empty: FROM needs an image",
        ));
    }
    let found = match name.parse::<ImageReference>() {
        Ok(reference) => find_base(&reference).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match found {
        Ok(base) => {
            scope.complete = true;
            recipe.env = base.image.env();
            scope.values.extend(recipe.env.iter().cloned());
            recipe.labels = base.image.config.config.labels.clone();
            recipe.commands = base.image.commands();
            recipe.base = Some(base);
        }
        Err(error) => {
            let (message, help) = error.split_once("; ").unwrap_or((&error, ""));
            let mistake = Mistake::new(image.span.clone(), message);
            scope.mistake(if help.is_empty() {
                mistake
            } else {
                mistake.help(help)
            });
        }
    }
}

/// The names every Kubefile may use, after the platform that is built for.
fn predefined(platform: &Platform) -> BTreeMap<String, String> {
    let variant = platform
        .variant
        .as_ref()
        .map(|variant| format!("/{variant}"))
        .unwrap_or_default();
    [
        ("ARCH", platform.architecture.clone()),
        ("TARGETARCH", platform.architecture.clone()),
        ("TARGETOS", platform.os.clone()),
        (
            "TARGETPLATFORM",
            format!("{}/{}{variant}", platform.os, platform.architecture),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The variables at one point of the Kubefile.
struct Scope<'a> {
    values: BTreeMap<String, String>,
    /// Names that ARG declared.
    args: BTreeSet<String>,
    build_args: &'a BTreeMap<String, String>,
    /// Whether every variable there is, is known.
    complete: bool,
    mistakes: &'a mut Vec<Mistake>,
}

impl Scope<'_> {
    fn mistake(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    fn declare(&mut self, name: &Word, default: Option<&Word>) {
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
    fn name(&mut self, word: &Word) -> Option<String> {
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

    fn fill_in(&mut self, word: &Word) -> String {
        let mut text = String::new();
        for piece in &word.pieces {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::Variable {
                    name,
                    span,
                    otherwise,
                } => {
                    let value = self.values.get(name);
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
    fn fill_in_args(&self, text: &str) -> String {
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

    /// A `--build-arg` that no ARG takes is a slip of the finger.
    fn check_build_args(&mut self, kubefile: &Kubefile) {
        for name in self
            .build_args
            .keys()
            .filter(|name| !self.args.contains(*name))
            .collect::<Vec<_>>()
        {
            let place = kubefile
                .directives
                .first()
                .map_or(0..0, |first| first.span.clone());
            let mistake = Mistake::new(
                place,
                format!("--build-arg {name} is given, but no ARG declares it"),
            );
            let near = closest(name, self.args.iter().map(String::as_str));
            self.mistakes.push(match near {
                Some(near) => mistake.help(format!("did you mean --build-arg {near}=…?")),
                None => mistake.help(format!(
                    "add `ARG {name}` to the Kubefile, or leave the argument out"
                )),
            });
        }
    }
}

/// The arguments as one line that a shell takes apart into the same arguments.
pub(super) fn shell_line(arguments: &[String]) -> String {
    let plain = |argument: &String| {
        !argument.is_empty()
            && argument
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b))
    };
    let quoted = |argument: &String| {
        if plain(argument) {
            argument.clone()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
