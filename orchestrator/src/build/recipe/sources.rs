//! This module owns which files directives name: of the context, and for applications.

use super::super::applications::role_label;
use super::super::kubefile::{AppRole, Word};
use super::{CopySource, Mistake, Recipe, Scope, Step, StepKind};

/// How files of the context are named in APP.
const LOCAL: &str = "local://";
/// How files of elsewhere are named.
const REMOTE: [&str; 3] = ["http://", "https://", "git@"];

/// A source of COPY or ADD.
pub(super) fn path(word: &Word, scope: &mut Scope<'_>) -> Option<CopySource> {
    let source = scope.fill_in_source(word)?;
    if REMOTE.iter().any(|scheme| source.starts_with(scheme)) {
        remote(&source, word, scope);
        return None;
    }
    Some(CopySource::Path(source))
}

fn remote(source: &str, word: &Word, scope: &mut Scope<'_>) {
    let message =
        format!("{source:?} lies elsewhere: this version of gantry copies from the build context only");
    let mistake = Mistake::new(word.span.clone(), message);
    scope.mistake(mistake.help("fetch it into the context before the build"));
}

/// The files of an application: a COPY into its folder.
pub(super) fn app(
    role: AppRole,
    name: &Word,
    sources: &[Word],
    recipe: &mut Recipe,
    scope: &mut Scope<'_>,
) -> Option<StepKind> {
    let span = name.span.clone();
    let name = scope.fill_in(name);
    let is_copy = |step: &&Step| matches!(step.kind, StepKind::Copy { .. });
    let copy = recipe.steps.iter().filter(is_copy).count();
    let (folder, replace) = recipe.applications.register(&name, &span, copy, scope)?;
    if let Some(label) = role_label(role, &name) {
        recipe.labels.insert(label, "true".to_owned());
    }
    let mut filled = Vec::new();
    for word in sources {
        let Some(source) = scope.fill_in_source(word) else {
            continue;
        };
        if let Some(path) = source.strip_prefix(LOCAL) {
            filled.push((CopySource::Path(path.to_owned()), word.span.clone()));
        } else if REMOTE.iter().any(|scheme| source.starts_with(scheme)) {
            remote(&source, word, scope);
        } else {
            let mistake = Mistake::new(
                word.span.clone(),
                format!("{source:?} does not say where it lies"),
            );
            scope.mistake(mistake.help(format!("write {LOCAL}{source} for a file of the build context")));
        }
    }
    Some(StepKind::Copy {
        sources: filled,
        destination: (folder, span),
        unpack: false,
        replace,
    })
}
