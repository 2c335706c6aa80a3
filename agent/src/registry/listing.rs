//! Lists in pages: the names of repositories, and the tags of one.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::problem::Problem;
use super::route::{is_name, is_tag};
use super::tree::{Tree, TreeError};

/// Most names on one page of the catalogue, and how many there are when nobody says.
const MAX_PAGE: u64 = 1000;
/// Most folders looked into for one page of the catalogue.
const MAX_FOLDERS: usize = 100_000;
/// The folder that makes a folder a repository.
const LAYERS: &str = "_layers";

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Most entries wanted.
    n: Option<u64>,
    /// The last entry of the page before.
    last: Option<String>,
}

/// Part of a list.
#[derive(Debug, PartialEq)]
pub(super) struct Listing {
    /// The answer's text.
    pub(super) text: String,
    /// Path and query of the next page, if there is more.
    pub(super) next: Option<String>,
}

impl Page {
    /// What the query of a request asks for.
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut page = Self::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*name {
                "n" => page.n = value.parse().ok(),
                "last" if !value.is_empty() => page.last = Some(value.into_owned()),
                _ => {}
            }
        }
        page
    }
}

/// The names of repositories.
///
/// # Errors
/// When too many are asked for, or the tree cannot be read.
pub(super) fn catalog(tree: &Tree, page: &Page) -> Result<Listing, Problem> {
    let n = page.n.unwrap_or(MAX_PAGE);
    if n > MAX_PAGE {
        return Err(Problem::page_too_large(n));
    }
    let names = match repositories(tree) {
        // A registry without any is none that lacks something.
        Err(TreeError::Missing) => Vec::new(),
        names => names.map_err(|error| Problem::of(error, Problem::no_such_path))?,
    };
    let (names, more) = part(&names, page, Some(n), |name, last| {
        name.split('/').gt(last.split('/'))
    });
    let next = next("/v2/_catalog", n, &names, more);
    Ok(listing(&json!({ "repositories": names }), next))
}

/// The tags of `repository`.
///
/// # Errors
/// When there is no such repository, or the tree cannot be read.
pub(super) fn tags(tree: &Tree, repository: &str, page: &Page) -> Result<Listing, Problem> {
    let mut names = tree
        .tags(repository)
        .map_err(|error| Problem::of(error, || Problem::no_repository(repository)))?;
    names.retain(|name| is_tag(name));
    let (names, more) = part(&names, page, page.n, |name, last| name > last);
    let path = format!("/v2/{repository}/tags/list");
    let next = next(&path, page.n.unwrap_or_default(), &names, more);
    Ok(listing(&json!({ "name": repository, "tags": names }), next))
}

/// The part of the sorted `names` that `page` asks for, and whether there is more behind it.
fn part(
    names: &[String],
    page: &Page,
    n: Option<u64>,
    is_after: impl Fn(&str, &str) -> bool,
) -> (Vec<String>, bool) {
    let wanted = names
        .iter()
        .filter(|name| page.last.as_ref().is_none_or(|last| is_after(name, last)));
    let n = n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut found: Vec<String> = wanted.take(n.saturating_add(1)).cloned().collect();
    let more = found.len() > n;
    found.truncate(n);
    (found, more)
}

fn next(path: &str, n: u64, names: &[String], more: bool) -> Option<String> {
    let last = names.last().filter(|_| more)?;
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("last", last)
        .append_pair("n", &n.to_string())
        .finish();
    Some(format!("{path}?{query}"))
}

fn listing(list: &Value, next: Option<String>) -> Listing {
    Listing {
        text: format!("{list}\n"),
        next,
    }
}

/// All repositories, a part of their names after the other.
fn repositories(tree: &Tree) -> Result<Vec<String>, TreeError> {
    let (mut found, mut looked_into) = (Vec::new(), 0);
    let top = tree.below_repositories(&[])?;
    let mut open: VecDeque<String> = top.into_iter().filter(|name| is_name(name)).collect();
    while let Some(name) = open.pop_front() {
        looked_into += 1;
        if looked_into > MAX_FOLDERS {
            return Err(
                std::io::Error::other(format!("more than {MAX_FOLDERS} folders of repositories")).into(),
            );
        }
        let parts: Vec<&str> = name.split('/').collect();
        let inner = match tree.below_repositories(&parts) {
            // No folder, and so no repository.
            Err(TreeError::Missing) => continue,
            inner => inner?,
        };
        if inner.iter().any(|inner| inner == LAYERS) {
            found.push(name.clone());
        }
        for inner in inner.iter().rev() {
            let inner = format!("{name}/{inner}");
            if is_name(&inner) {
                open.push_front(inner);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::Sample;
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let sample = Sample::new();
        let tree = sample.tree();
        let page = |query: &str| catalog(&tree, &Page::of(Some(query))).unwrap();
        assert_eq!(
            page("").text,
            "{\"repositories\":[\"hello\",\"hello-more\",\"library/nested/deep\"]}\n"
        );
        let first = page("n=2");
        assert_eq!(first.text, "{\"repositories\":[\"hello\",\"hello-more\"]}\n");
        assert_eq!(first.next.as_deref(), Some("/v2/_catalog?last=hello-more&n=2"));
        let second = page("last=hello-more&n=2");
        assert_eq!(second.text, "{\"repositories\":[\"library/nested/deep\"]}\n");
        assert_eq!(second.next, None);
        assert_eq!(page("n=0").text, "{\"repositories\":[]}\n");
        assert!(catalog(&tree, &Page::of(Some("n=1001"))).is_err());

        let page = |query: &str| tags(&tree, "hello", &Page::of(Some(query))).unwrap();
        assert_eq!(
            page("").text,
            "{\"name\":\"hello\",\"tags\":[\"1.0\",\"all\",\"latest\"]}\n"
        );
        let first = page("n=1&last=1.0");
        assert_eq!(first.text, "{\"name\":\"hello\",\"tags\":[\"all\"]}\n");
        assert_eq!(first.next.as_deref(), Some("/v2/hello/tags/list?last=all&n=1"));
        assert_eq!(page("n=1&last=all").next, None);
        assert!(tags(&tree, "nope", &Page::default()).is_err());
    }
}
