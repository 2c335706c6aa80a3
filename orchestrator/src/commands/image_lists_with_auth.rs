//! Lists of container images with who may have them, as sealer has them (`--image-list-with-auth`): YAML, a list of registries.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use gantry_model::{ExitCode, ImageReference};
use gantry_registry_client::{Credentials, RemoteImage, Repository};

use crate::clusterfile::tree::{Bounds, Node, Span, Value, parse_within};
use crate::clusterfile::{Mistake, Mistakes};
use crate::completeness::{MAX_IMAGE_LIST_LEN, Place};
use crate::exit::{OrExit as _, failure_hint};

/// Bounds of one list.
const BOUNDS: Bounds = Bounds {
    nodes: 50_000,
    depth: 8,
    documents: 1,
};
/// What an entry may say.
const FIELDS: [&str; 4] = ["registry", "username", "password", "images"];
const HELP: &str = "an entry has registry: HOST[:PORT], username: NAME, password: TEXT and images: [NAME, …]";

/// The images of a list, each with its place, and the credentials for the repository of each.
#[derive(Debug, Default)]
pub(super) struct ImageListWithAuth {
    pub(super) listed: Vec<(ImageReference, Place)>,
    pub(super) logins: HashMap<Repository, Credentials>,
}

/// Reads the list `file`. Names without a registry are of that of their entry.
///
/// # Errors
/// When it cannot be read, or has mistakes: every one is shown with its place, and no password ever.
pub(super) fn read_image_list_with_auth(file: &Path) -> anyhow::Result<ImageListWithAuth> {
    let name = file.display().to_string();
    let mut text = String::new();
    File::open(file)
        .and_then(|open| open.take(MAX_IMAGE_LIST_LEN + 1).read_to_string(&mut text))
        .with_context(|| format!("cannot read {name}"))
        .or_exit(ExitCode::Input)?;
    if text.len() as u64 > MAX_IMAGE_LIST_LEN {
        let message = format!("{name} is larger than {} MiB", MAX_IMAGE_LIST_LEN >> 20);
        return Err(failure_hint(ExitCode::Input, message, HELP));
    }
    parse(&text, &name).map_err(|mistakes| {
        let places: Vec<String> = mistakes.iter().map(|mistake| mistake.message.clone()).collect();
        // The lines themselves may hold passwords: they are not shown.
        let mistakes = Mistakes::new(name.as_str(), text.as_str(), mistakes);
        for (mistake, message) in mistakes.list().iter().zip(places) {
            anstream::eprintln!("error: {}: {message}", mistakes.place(mistake));
        }
        failure_hint(ExitCode::Input, mistakes.to_string(), HELP)
    })
}

fn parse(text: &str, file: &str) -> Result<ImageListWithAuth, Vec<Mistake>> {
    let (documents, mut mistakes) = parse_within(text, BOUNDS);
    let mut list = ImageListWithAuth::default();
    for entry in documents.iter().flat_map(Node::items) {
        add(entry, text, file, &mut list, &mut mistakes);
    }
    for document in &documents {
        if !matches!(document.value, Value::List(_) | Value::Null) {
            mistakes.push(Mistake::new(
                document.span.clone(),
                "this is no list of registries",
            ));
        }
    }
    if mistakes.is_empty() {
        Ok(list)
    } else {
        mistakes.sort_by_key(|mistake| mistake.span.start);
        Err(mistakes)
    }
}

fn add(entry: &Node, text: &str, file: &str, list: &mut ImageListWithAuth, mistakes: &mut Vec<Mistake>) {
    let mut wrong = |span: &Span, message: &str| mistakes.push(Mistake::new(span.clone(), message));
    for field in entry
        .entries()
        .iter()
        .filter(|field| !FIELDS.contains(&&*field.key))
    {
        wrong(&field.key_span, "an entry has no such field");
    }
    let said = |field: &str| {
        entry
            .get(field)
            .and_then(Node::text)
            .filter(|text| !text.is_empty())
    };
    let Some(registry) = said("registry") else {
        return wrong(&entry.span, "this entry has no registry");
    };
    let login = match (said("username"), said("password")) {
        (Some(user), Some(secret)) => Some(Credentials::Password {
            user: user.to_owned(),
            secret: secret.to_owned(),
        }),
        (None, None) => None,
        _ => return wrong(&entry.span, "username and password go together"),
    };
    let images = entry.get("images").map(Node::items).unwrap_or_default();
    if images.is_empty() {
        return wrong(&entry.span, "this entry has no images");
    }
    for image in images {
        let Some(image_text) = image.text() else {
            wrong(&image.span, "this is no name of an image");
            continue;
        };
        match named(image_text, registry) {
            Ok((reference, repository)) => {
                let place = Place {
                    file: file.to_owned(),
                    line: Some(text[..image.span.start].matches('\n').count() + 1),
                };
                list.listed.push((reference, place));
                let Some(login) = &login else { continue };
                let before = list.logins.insert(repository, login.clone());
                if before.is_some_and(|before| before != *login) {
                    wrong(
                        &image.span,
                        "an entry before this has another login for the same repository",
                    );
                }
            }
            Err(reason) => wrong(&image.span, &reason),
        }
    }
}

/// The image `text`, of `registry` unless it says another one: then the password is not meant for that.
fn named(text: &str, registry: &str) -> Result<(ImageReference, Repository), String> {
    let parsed: ImageReference = text.parse().map_err(|error| format!("{error}"))?;
    let reference = match parsed.domain() {
        Some(domain) if domain.eq_ignore_ascii_case(registry) => parsed,
        Some(domain) => {
            return Err(format!(
                "it is of registry {domain}, and the entry is for {registry}"
            ));
        }
        None => format!("{registry}/{text}")
            .parse()
            .map_err(|error| format!("{error}"))?,
    };
    let repository = RemoteImage::of(&reference)?.repository;
    Ok((reference, repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_with_who_may_have_them() {
        let text = "- registry: hub.lab:5000\n  username: ci\n  password: \"123\"\n  images:\n  - app/web:1\n  - hub.lab:5000/app/db:2\n- registry: quay.io\n  images: [team/open:3]\n";
        let list = parse(text, "list").unwrap();
        let listed: Vec<String> = list
            .listed
            .iter()
            .map(|(image, place)| format!("{place}: {image}"))
            .collect();
        assert_eq!(
            listed,
            [
                "list:5: hub.lab:5000/app/web:1",
                "list:6: hub.lab:5000/app/db:2",
                "list:8: quay.io/team/open:3"
            ]
        );
        assert_eq!(list.logins.len(), 2);
        assert!(list.logins.values().all(|login| login.user() == "ci"));
    }

    #[test]
    fn mistakes_have_their_places() {
        for (text, message) in [
            ("registry: a.io\n", "no list of registries"),
            ("- images: [a:1]\n", "no registry"),
            ("- {registry: a.io, username: u, images: [a:1]}\n", "go together"),
            ("- {registry: a.io, images: []}\n", "no images"),
            ("- {registry: a.io, images: ['A B']}\n", "not an image name"),
            ("- {registry: a.io, images: [b.io/a:1]}\n", "of registry b.io"),
            ("- {registry: a.io, user: u, images: [a:1]}\n", "no such field"),
            (
                "- {registry: a.io, username: u, password: p, images: [a:1]}\n- {registry: a.io, username: u, password: q, images: [a:2]}\n",
                "another login",
            ),
        ] {
            let mistakes = parse(text, "list").unwrap_err();
            assert!(mistakes[0].message.contains(message), "{text}: {mistakes:?}");
        }
    }
}
