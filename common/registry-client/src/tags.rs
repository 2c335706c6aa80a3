//! This module owns listing the tags of a repository (OCI distribution-spec, "Listing tags").

use gantry_model::ImageReference;
use reqwest::Method;
use reqwest::header::LINK;
use serde::Deserialize;

use crate::client::{RegistryClient, said_in};
use crate::connections::same_origin;
use crate::limits::{MAX_TAGS, MAX_TAGS_PAGE_LEN};
use crate::printable::printable;
use crate::requests::{Ask, read_bounded};
use crate::{Registry, RegistryError, Repository};

/// Tags asked for at a time.
const PAGE: usize = 1000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl RegistryClient {
    /// The full name of the repository that `name` means, and its tags in the registry's order.
    ///
    /// # Errors
    /// When there is no such repository, or it does not say.
    pub async fn tags(&self, name: &ImageReference) -> Result<(String, Vec<String>), RegistryError> {
        let mut last = None;
        for full in self.conf().full_names(name)? {
            let repository = Repository::of(&full).map_err(RegistryError::Name)?;
            match self.tags_of(&repository, said_in(name, &repository)).await {
                Ok(tags) => return Ok((repository.to_string(), tags)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a name stands for one repository at least"))
    }

    async fn tags_of(
        &self,
        repository: &Repository,
        said: Option<&Registry>,
    ) -> Result<Vec<String>, RegistryError> {
        let endpoint = self.destination(repository, said)?;
        let (what, registry) = (format!("repository {repository}"), repository.registry().name());
        let mut tags = Vec::new();
        let mut url = self.url(&endpoint, &format!("tags/list?n={PAGE}")).await?;
        loop {
            let response = self
                .ask(&Ask::new(&endpoint, Method::GET, url.clone(), what.clone()))
                .await?;
            let next = response
                .headers()
                .get(LINK)
                .and_then(|link| next_page(link.to_str().ok()?));
            let body = read_bounded(response, MAX_TAGS_PAGE_LEN, registry, &what).await?;
            let malformed = |reason: String| RegistryError::Malformed {
                registry: registry.to_owned(),
                what: format!("the list of tags of {repository}"),
                reason,
            };
            let page: Page = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
            let page = page.tags.unwrap_or_default();
            let empty = page.is_empty();
            tags.extend(page.into_iter().map(|tag| printable(&tag)));
            if tags.len() > MAX_TAGS {
                return Err(malformed(format!("it is longer than {MAX_TAGS} tags")));
            }
            let Some(next) = next.filter(|_| !empty) else {
                return Ok(tags);
            };
            let next = url
                .join(&next)
                .map_err(|_| malformed("its next page has no address".to_owned()))?;
            if !same_origin(&next, &url) || next == url {
                return Err(malformed("its next page lies elsewhere".to_owned()));
            }
            url = next;
        }
    }
}

/// The address in `Link: <ADDRESS>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let relation = rest.replace(['"', ' '], "");
    relation.contains("rel=next").then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let next = next_page(r#"</v2/a/tags/list?last=z&n=1000>; rel="next""#);
        assert_eq!(next.as_deref(), Some("/v2/a/tags/list?last=z&n=1000"));
        assert_eq!(next_page("</x>; rel=prev"), None);
        assert_eq!(next_page("garbage"), None);
    }
}
