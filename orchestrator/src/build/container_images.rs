//! Which container images a ClusterImage brings: those its base names, and those in its `registry/`.

use gantry_store::{ContainerImage, Platform};

use super::tree::MergedTree;

/// Where a registry has its repositories (docker distribution, filesystem driver).
const REPOSITORIES: &str = "registry/docker/registry/v2/repositories/";
/// Between the name of a repository and a tag of it.
const TAGS: &str = "/_manifests/tags/";
/// Most that are named: the list travels with every manifest.
const MAX_IMAGES: usize = 10_000;

/// The container images in `tree`, after those that the base named.
pub(super) fn container_images(
    mut named: Vec<ContainerImage>,
    tree: &MergedTree,
    platform: &Platform,
) -> Vec<ContainerImage> {
    let by_base = named.len();
    for path in tree.folders_below(REPOSITORIES) {
        let Some((repository, tag)) = path[REPOSITORIES.len()..].split_once(TAGS) else {
            continue;
        };
        if named.len() >= MAX_IMAGES {
            break;
        }
        if tag.contains('/') {
            continue;
        }
        let image = format!("{repository}:{tag}");
        // The tree has no domains; the base may name them.
        let known = named[..by_base].iter().any(|known| {
            known
                .image
                .strip_suffix(&image)
                .is_some_and(|domain| domain.is_empty() || domain.ends_with('/'))
        });
        if !known {
            named.push(ContainerImage {
                image,
                app_name: String::new(),
                platform: Some(platform.clone()),
            });
        }
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
}
