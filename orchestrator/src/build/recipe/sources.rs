//! This module owns which files directives name: of the context, of elsewhere, and for applications.

use gantry_model::Digest;

use super::super::applications::role_label;
use super::super::kubefile::{AppRole, Word};
use super::super::remote::{NoSource, RemoteSource};
use super::{CopySource, Mistake, Recipe, Scope, Span, Step, StepKind};

/// How files of the context are named in APP.
const LOCAL: &str = "local://";

/// A source of COPY or ADD.
pub(super) fn path(word: &Word, scope: &mut Scope<'_>) -> Option<CopySource> {
    let source = scope.fill_in_source(word)?;
    match RemoteSource::parse(&source) {
        None => Some(CopySource::Path(source)),
        Some(parsed) => remote(parsed, word, scope),
    }
}

fn remote(parsed: Result<RemoteSource, NoSource>, word: &Word, scope: &mut Scope<'_>) -> Option<CopySource> {
    match parsed {
        Ok(source) => Some(CopySource::Remote(source, None)),
        Err(error) => {
            scope.mistake(Mistake::new(word.span.clone(), error.message).help(error.help));
            None
        }
    }
}

/// `--checksum`: what the one file that lies elsewhere has to be.
pub(super) fn set_checksum(word: &Word, sources: &mut [(CopySource, Span)], scope: &mut Scope<'_>) {
    let text = scope.fill_in(word);
    let digest = match text.parse::<Digest>() {
        Ok(digest) => digest,
        Err(error) => {
            let mistake = Mistake::new(word.span.clone(), format!("{text:?} is no digest: {error}"));
            return scope.mistake(mistake.help("write --checksum=sha256:DIGEST"));
        }
    };
    match sources {
        [(CopySource::Remote(RemoteSource::File { .. }, checksum), _)] => *checksum = Some(digest),
        // What is wrong with the source itself was said.
        [] => {}
        _ => {
            let mistake = Mistake::new(word.span.clone(), "--checksum is for one file behind an address");
            scope.mistake(mistake.help("leave it out, or write a directive for each file"));
        }
    }
}

/// `--chmod`: a mode in octal digits.
pub(super) fn mode(word: &Word, scope: &mut Scope<'_>) -> Option<u32> {
    let text = scope.fill_in(word);
    let is_octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = is_octal.then(|| u32::from_str_radix(&text, 8).ok()).flatten();
    let mode = mode.filter(|mode| *mode <= 0o7777);
    if mode.is_none() {
        let mistake = Mistake::new(word.span.clone(), format!("{text:?} is no mode"));
        scope.mistake(mistake.help("write it in octal digits: --chmod=755"));
    }
    mode
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
        } else if let Some(parsed) = RemoteSource::parse(&source) {
            filled.extend(remote(parsed, word, scope).map(|source| (source, word.span.clone())));
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
        mode: None,
    })
}
