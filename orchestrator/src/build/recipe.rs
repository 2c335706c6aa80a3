//! This module owns [`Recipe`]: a Kubefile with every variable filled in, ready to be carried out.

use std::collections::BTreeMap;

use gantry_model::ImageReference;
use gantry_store::{Platform, StoreError};

use crate::clusterfile::{Mistake, tree::Span};

use super::base::BaseImage;
use super::kubefile::{Command, Directive, DirectiveKind, Kubefile, Word};
use super::scope::Scope;

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
    let mut scope = Scope::new(platform, build_args, mistakes);
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
                scope.set(name.clone(), value.clone());
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
                env: scope.values().clone(),
            });
        }
        DirectiveKind::Copy { sources, destination } => {
            let mut filled = Vec::new();
            for word in sources {
                filled.extend(
                    scope
                        .fill_in_source(word)
                        .map(|source| (source, word.span.clone())),
                );
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
    scope.set_complete(false);
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
            scope.set_complete(true);
            recipe.env = base.image.env();
            for (name, value) in &recipe.env {
                scope.set(name.clone(), value.clone());
            }
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
