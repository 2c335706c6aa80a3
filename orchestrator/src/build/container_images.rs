//! Which container images a ClusterImage brings: those its base names, and those in its `registry/`.

use std::collections::BTreeSet;

use gantry_model::{ImageReference, RegistryPlaces};
use gantry_store::{ContainerImage, Platform};

use crate::completeness::places_of;

use super::tree::MergedTree;

/// Where a registry has its repositories (docker distribution, filesystem driver).
const REPOSITORIES: &str = "registry/docker/registry/v2/repositories/";
/// Between the name of a repository and a tag of it.
const TAGS: &str = "/_manifests/tags/";
/// Most that are named: the list travels with every manifest.
const MAX_IMAGES: usize = 10_000;

/// The container images in `tree`, after those that are named: what lies in a place of one of them is that one.
pub(super) fn container_images(
    mut named: Vec<ContainerImage>,
    tree: &MergedTree,
    platform: &Platform,
) -> Vec<ContainerImage> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for image in &named {
        if let Ok(reference) = image.image.parse::<ImageReference>()
            && let (Some(tag), None) = (reference.tag(), reference.digest())
        {
            let RegistryPlaces { own, shared } = places_of(&reference);
            let mut places: Vec<String> = own.into_iter().chain([shared]).collect();
            // By the path as it is written sealer has it, with or without the folder of Docker Hub.
            places.push(reference.path().to_owned());
            known.extend(places.into_iter().map(|place| format!("{place}:{tag}")));
        }
    }
    let mut found: Vec<(&str, &str)> = tree
        .folders_below(REPOSITORIES)
        .filter_map(|path| path[REPOSITORIES.len()..].split_once(TAGS))
        .filter(|(_, tag)| !tag.contains('/'))
        .collect();
    // Own places first: they say the registry.
    let is_own = |repository: &str| {
        let folder = repository.split_once('/').map(|(folder, _)| folder);
        folder.is_some_and(RegistryPlaces::is_registry)
    };
    found.sort_by_key(|(repository, _)| !is_own(repository));
    for (repository, tag) in found {
        if named.len() >= MAX_IMAGES {
            break;
        }
        if !known.insert(format!("{repository}:{tag}")) {
            continue;
        }
        if is_own(repository)
            && let Some((_, shared)) = repository.split_once('/')
        {
            known.insert(format!("{shared}:{tag}"));
        }
        named.push(ContainerImage {
            image: format!("{}:{tag}", RegistryPlaces::name_in(repository)),
            app_name: String::new(),
            platform: Some(platform.clone()),
        });
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_has_and_the_base_did_not_name_is_added() {
        let tree = MergedTree::of_folders(&[
            "registry/docker/registry/v2/repositories/library/nginx/_manifests/tags/1.25",
            "registry/docker/registry/v2/repositories/library/nginx/_manifests/tags/1.25/current",
            "registry/docker/registry/v2/repositories/pause/_manifests/tags/3.9",
            "registry/docker/registry/v2/repositories/pause/_manifests/revisions/sha256",
        ]);
        let named = vec![ContainerImage {
            image: "registry.k8s.io/pause:3.9".into(),
            app_name: String::new(),
            platform: None,
        }];
        let images = container_images(named, &tree, &Platform::host());
        let names: Vec<&str> = images.iter().map(|one| one.image.as_str()).collect();
        assert_eq!(names, ["registry.k8s.io/pause:3.9", "library/nginx:1.25"]);
    }

    #[test]
    fn an_image_with_two_places_is_listed_once_by_its_name() {
        let tags = |repository: &str| format!("{REPOSITORIES}{repository}{TAGS}1");
        let folders = [
            "app/web",
            "registry.lab_5000/app/web",
            "docker.io/library/web",
            "library/web",
            "0-0-0-0-0-0-0-1.ip6.arpa_5000/db",
            "db",
        ]
        .map(tags);
        let tree = MergedTree::of_folders(&folders.each_ref().map(String::as_str));
        let names = |named: &[&str]| -> Vec<String> {
            let named = named.iter().map(|image| ContainerImage {
                image: (*image).to_owned(),
                app_name: String::new(),
                platform: None,
            });
            let images = container_images(named.collect(), &tree, &Platform::host());
            images.into_iter().map(|one| one.image).collect()
        };
        assert_eq!(
            names(&[]),
            [
                "[::1]:5000/db:1",
                "docker.io/library/web:1",
                "registry.lab:5000/app/web:1"
            ]
        );
        assert_eq!(
            names(&["registry.lab:5000/app/web:1", "web:1", "[0::1]:5000/db:1"]),
            ["registry.lab:5000/app/web:1", "web:1", "[0::1]:5000/db:1"]
        );
    }
}
