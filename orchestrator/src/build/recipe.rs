//! This module owns [`Recipe`]: a Kubefile with every variable filled in, ready to be carried out.

use std::collections::BTreeMap;

use gantry_model::{Digest, ImageReference};
use gantry_store::{LaunchItem, Platform, StoreError};

use crate::clusterfile::{Mistake, tree::Span};

use super::applications::Applications;
use super::base::BaseImage;
use super::kubefile::{Command, Directive, DirectiveKind, Kubefile, Source, Word};
use super::platform;
use super::remote::RemoteSource;
use super::scope::Scope;

mod sources;

/// Label of an image: the versions of Kubernetes its applications are for, as a range of semantic versions.
const KUBE_VERSION_LABEL: &str = "app.alpha.sealer.io/supported-kube-version";
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
    /// Its applications, the base's included, and what is launched.
    pub(super) applications: Applications,
    /// Who made it, as the Kubefile says.
    pub(super) author: Option<String>,
    /// The platform that is built for.
    pub(super) platform: Platform,
    /// Whether every variable and application there is, is known: not when the base cannot be found.
    pub(super) complete: bool,
    /// What people should know about it.
    pub(super) warnings: Vec<String>,
}

impl Recipe {
    /// Sources that lie elsewhere, in order: what each has to be, and where it stands in the Kubefile.
    pub(super) fn remote_sources(&self) -> impl Iterator<Item = (&RemoteSource, Option<Digest>, &Span)> {
        let copied = self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Copy { sources, .. } => Some(sources),
            _ => None,
        });
        copied.flatten().filter_map(|(source, span)| match source {
            CopySource::Remote(source, checksum) => Some((source, *checksum, span)),
            _ => None,
        })
    }
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

/// What is copied.
#[derive(Debug)]
pub(super) enum CopySource {
    /// A path or pattern in the context.
    Path(String),
    /// A file that stands in the Kubefile: its name, and what is in it.
    Text(String, String),
    /// Something that lies elsewhere, and the digest that it has to have.
    Remote(RemoteSource, Option<Digest>),
}

/// How a base is found.
pub(super) type FindBase<'a> = dyn Fn(&ImageReference, &Platform) -> Result<BaseImage, StoreError> + 'a;

/// What a step does.
#[derive(Debug)]
pub(super) enum StepKind {
    /// Copies from the context into a new layer.
    Copy {
        /// What, with its place in the Kubefile.
        sources: Vec<(CopySource, Span)>,
        /// Where to, as written.
        destination: (String, Span),
        /// Whether tar archives among them are unpacked.
        unpack: bool,
        /// Whether what the base has in the destination, a folder, is hidden.
        replace: bool,
        /// Mode of every file and folder that is copied; none for what each has in the context.
        mode: Option<u32>,
    },
    /// Runs a command whose writes become a new layer.
    Run {
        /// The command.
        command: Command,
        /// ARG and ENV values at this point.
        env: BTreeMap<String, String>,
        /// More of the environment, on which what it makes does not depend.
        proxies: BTreeMap<String, String>,
        /// Whether it has no network, whatever the build has.
        offline: bool,
    },
    /// Says something about the image; makes no layer.
    Note,
}

/// Fills in the variables of `kubefile`, for the platform `chosen` on the command line or this host's; every mistake goes
/// into `mistakes`.
pub(super) fn prepare(
    kubefile: &Kubefile,
    build_args: &BTreeMap<String, String>,
    chosen: Option<&Platform>,
    find_base: &FindBase<'_>,
    mistakes: &mut Vec<Mistake>,
) -> Recipe {
    let platform = chosen.cloned().unwrap_or_else(Platform::host);
    let mut scope = Scope::new(&platform, build_args, mistakes);
    let mut recipe = Recipe {
        base: None,
        steps: Vec::new(),
        env: Vec::new(),
        labels: BTreeMap::new(),
        applications: Applications::default(),
        author: None,
        platform,
        complete: true,
        warnings: Vec::new(),
    };
    for directive in &kubefile.directives {
        if let DirectiveKind::From { image, platform } = &directive.kind {
            if let Some(platform) = platform {
                choose_platform(platform, chosen, &mut recipe, &mut scope);
            }
            from(image, &mut recipe, &mut scope, find_base);
        } else if let Some(kind) = take(directive, &mut recipe, &mut scope) {
            let (span, text) = (directive.span.clone(), directive.text.clone());
            recipe.steps.push(Step { span, text, kind });
        }
    }
    recipe.warnings = scope.unused_build_args();
    recipe.complete = scope.is_complete();
    recipe
}

/// `FROM --platform`: the base's platform is the image's.
fn choose_platform(word: &Word, chosen: Option<&Platform>, recipe: &mut Recipe, scope: &mut Scope<'_>) {
    let text = scope.fill_in(word);
    match platform::parse(&text) {
        Err(message) => scope.mistake(Mistake::new(word.span.clone(), message)),
        Ok(platform) => {
            if let Some(chosen) = chosen.filter(|chosen| **chosen != platform) {
                let message = format!("the base is for {platform}, but --platform says {chosen}");
                let mistake = Mistake::new(word.span.clone(), message);
                scope.mistake(
                    mistake.help("write `FROM --platform=$TARGETPLATFORM`, or leave one of them out"),
                );
                return;
            }
            scope.set_platform(&platform);
            recipe.platform = platform;
        }
    }
}

fn take(directive: &Directive, recipe: &mut Recipe, scope: &mut Scope<'_>) -> Option<StepKind> {
    match &directive.kind {
        DirectiveKind::From { .. } => return None,
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
        DirectiveKind::Maintainer(name) => recipe.author = Some(scope.fill_in(name)),
        DirectiveKind::KubeVersion(constraint) => {
            let constraint = scope.fill_in(constraint);
            recipe.labels.insert(KUBE_VERSION_LABEL.to_owned(), constraint);
        }
        DirectiveKind::Cmd(command) => recipe.applications.add_line(command, &directive.span, scope),
        DirectiveKind::Cmds(lines) => {
            let span = &directive.span;
            let line = |line: &String| (LaunchItem::Line(scope.fill_in_args(line)), span.clone());
            recipe.applications.launch(lines.iter().map(line));
        }
        DirectiveKind::Launch(apps) => {
            let mut items = Vec::new();
            for app in apps {
                let name = scope.fill_in(app);
                // Written by people who want nothing launched.
                if !name.is_empty() {
                    items.push((LaunchItem::Application(name), app.span.clone()));
                }
            }
            recipe.applications.launch(items);
        }
        DirectiveKind::AppCmds { app, commands } => {
            let name = scope.fill_in(app);
            let commands = commands
                .iter()
                .map(|command| scope.fill_in_args(command))
                .collect();
            if let Some(application) = recipe.applications.known(&name, &app.span, scope) {
                application.cmds = commands;
            }
        }
        DirectiveKind::AppEnv { app, pairs } => {
            let name = scope.fill_in(app);
            let mut env = Vec::new();
            for (name, value) in pairs {
                env.extend(scope.name(name).map(|name| (name, scope.fill_in(value))));
            }
            if let Some(application) = recipe.applications.known(&name, &app.span, scope) {
                application.env.extend(env);
            }
        }
        DirectiveKind::App { role, name, sources } => {
            return sources::app(*role, name, sources, recipe, scope);
        }
        DirectiveKind::Run { command, offline } => {
            return Some(StepKind::Run {
                command: command.clone(),
                env: scope.values().clone(),
                proxies: scope.proxies(),
                offline: *offline,
            });
        }
        DirectiveKind::Copy {
            sources,
            destination,
            unpack,
            checksum,
            chmod,
        } => {
            let mut filled = Vec::new();
            for source in sources {
                match source {
                    Source::Path(word) => {
                        filled.extend(sources::path(word, scope).map(|path| (path, word.span.clone())));
                    }
                    Source::Text { name, content } => {
                        let text = CopySource::Text(name.clone(), scope.fill_in(content));
                        filled.push((text, content.span.clone()));
                    }
                }
            }
            if let Some(checksum) = checksum {
                sources::set_checksum(checksum, &mut filled, scope);
            }
            return Some(StepKind::Copy {
                sources: filled,
                destination: (scope.fill_in(destination), destination.span.clone()),
                unpack: *unpack,
                replace: false,
                mode: chmod.as_ref().and_then(|chmod| sources::mode(chmod, scope)),
            });
        }
    }
    Some(StepKind::Note)
}

fn from(image: &Word, recipe: &mut Recipe, scope: &mut Scope<'_>, find_base: &FindBase<'_>) {
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
        Ok(reference) => find_base(&reference, &recipe.platform)
            .and_then(|base| Ok((Applications::of_base(&base.image)?, base)))
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match found {
        Ok((applications, base)) => {
            scope.set_complete(true);
            recipe.env = base.image.env();
            for (name, value) in &recipe.env {
                scope.set(name.clone(), value.clone());
            }
            recipe.labels = base.image.config.config.labels.clone();
            recipe.author = base.image.config.author.clone();
            recipe.applications = applications;
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

#[cfg(test)]
mod tests;
