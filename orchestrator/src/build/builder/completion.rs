//! After the last directive: the container images that files of the image name, and that are not in its `registry/`, are brought
//! there, or the build fails and says where they are named.

use std::collections::BTreeSet;

use gantry_model::{Digest, ExitCode, ImageReference, LayerDescriptor};
use gantry_store::manifest::MAX_LAYERS;
use gantry_store::{ContainerImage, Descriptor, Rootfs};

use crate::completeness::{
    Doubt, Missing, References, RegistryContents, Report, TemplateValues, data_path, has_no_control_plane,
    scan, upstream,
};
use crate::exit::{OrExit as _, failure, failure_hint};

use super::super::copy::CopyPlan;
use super::super::image_source::{ContainerImageSource, FoundContainerImage};
use super::super::provenance::Material;
use super::super::recipe::Recipe;
use super::super::registry_layout::{LayoutPart, RegistryLayout};
use super::super::{BuildEvent, BuildMode, add_kubeadm_images, layer_error};
use super::{Builder, Made};

/// What to do about container images that are missing.
const HINT: &str = "take them from an archive (--from-archive) or another registry (--from-registry); name those that \
                    hosts have from elsewhere in a file (--ignored-image-list), or build with --build-mode lite";
/// Doubts shown; `gantry check` shows all.
const MAX_DOUBTS_SHOWN: usize = 10;
/// Images shown that cannot be had for one cause.
const MAX_IMAGES_SHOWN: usize = 100;
/// Images named in the history of a layer.
const MAX_IMAGES_IN_HISTORY: usize = 8;

/// An image that is missing, and the one that was found for it.
type Brought<'m> = (&'m Missing, FoundContainerImage);

impl Builder<'_> {
    /// Looks for what is named and not inside, and takes it from `source`.
    ///
    /// # Errors
    /// When something cannot be had, or what `registry/` has of it is damaged.
    pub(in super::super) fn complete(
        &mut self,
        recipe: &Recipe,
        source: &mut dyn ContainerImageSource,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        let rootfs = self.rootfs()?;
        let references = self.references(recipe, &rootfs, event)?;
        let mut report = self.report(recipe, &rootfs, &references)?;
        warn_of_doubts(&report.doubts, event);
        if self.options.container_images.mode == BuildMode::Lite {
            warn_of_missing(&report, event);
            return Ok(());
        }
        if !report.missing.is_empty() {
            self.bring(recipe, &report.missing, source, event)?;
            // What came is looked at like everything else.
            let mut after = self.report(recipe, &self.rootfs()?, &references)?;
            after.doubts.retain(|doubt| !report.doubts.contains(doubt));
            warn_of_doubts(&after.doubts, event);
            report = after;
        }
        for flaw in &report.flaws {
            event(BuildEvent::Warning(&format!("in registry/, {flaw}")));
        }
        warn_of_missing(&report, event);
        let damaged = report.flaws.iter().filter(|flaw| flaw.named).count();
        match report.missing.len() + damaged {
            0 => Ok(()),
            _ => Err(failure_hint(
                ExitCode::Input,
                "container images that are named are not whole in registry/",
                "copy a registry/ that has them whole, or none: then they are brought by the build",
            )),
        }
    }

    /// What files of the image, its kubeadm and the command name.
    fn references(
        &self,
        recipe: &Recipe,
        rootfs: &Rootfs,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<References> {
        let wishes = &self.options.container_images;
        let extension = recipe.applications.extension();
        let extension = extension
            .map_err(|error| failure(ExitCode::Input, format!("the base cannot be built on: {error}")))?;
        let values = TemplateValues::new(&recipe.env, Some(&extension));
        let scan = scan(rootfs, &values).map_err(layer_error)?;
        let mut references = scan.references;
        for mistakes in &scan.mistakes {
            if wishes.mode == BuildMode::All {
                anstream::eprint!("{}", mistakes.render(true));
                continue;
            }
            // Nothing is brought, so nothing hangs on it.
            for mistake in mistakes.list() {
                let text = format!("{}: {}", mistakes.place(mistake), mistake.message);
                event(BuildEvent::Warning(&text));
            }
        }
        if let (Some(mistakes), BuildMode::All) = (scan.mistakes.into_iter().next(), wishes.mode) {
            return Err(failure(ExitCode::Input, mistakes));
        }
        for (image, place) in &wishes.listed {
            references.add_image(image.clone(), place.clone());
        }
        let contents = self.contents(recipe, rootfs)?;
        let (store, platform) = (self.store, &recipe.platform);
        let is_known = add_kubeadm_images(
            store,
            rootfs,
            &values,
            platform,
            &|| None,
            &contents,
            &mut references,
        )?;
        let references = references.without(|image| wishes.ignored.contains(image));
        if !is_known && wishes.mode == BuildMode::All && has_no_control_plane(&references, &contents) {
            warn_of_doubts(references.doubts(), event);
            return Err(failure_hint(
                ExitCode::Input,
                "which container images kubeadm starts is not known, and there is no control plane in registry/",
                "build as root on a machine of that platform, or name them: in manifests/imageList, or in a file for --image-list",
            ));
        }
        Ok(references)
    }

    fn rootfs(&self) -> anyhow::Result<Rootfs> {
        Rootfs::of_layers(self.store, self.assembly.layers()).map_err(layer_error)
    }

    /// What `registry/` has, and whose that is.
    fn contents<'r>(&self, recipe: &Recipe, rootfs: &'r Rootfs) -> anyhow::Result<RegistryContents<'r>> {
        let named = self.named(recipe)?;
        let contents = RegistryContents::read(rootfs).map_err(layer_error)?;
        Ok(contents.with_names(named.iter().map(|image| image.image.as_str())))
    }

    fn report(&self, recipe: &Recipe, rootfs: &Rootfs, references: &References) -> anyhow::Result<Report> {
        let contents = self.contents(recipe, rootfs)?;
        Report::of(references, &contents, &recipe.platform).map_err(layer_error)
    }

    fn bring(
        &mut self,
        recipe: &Recipe,
        missing: &[Missing],
        source: &mut dyn ContainerImageSource,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        let names: Vec<ImageReference> = missing.iter().map(|missing| missing.image.clone()).collect();
        event(BuildEvent::Bringing(&names));
        let sources: Vec<ImageReference> = names.iter().map(upstream).collect();
        let answers = source.find(&sources, &recipe.platform)?;
        let mut brought: Vec<Brought<'_>> = Vec::new();
        // What cannot be had for one cause is told together: a registry that does not answer is one cause.
        let mut absent: Vec<(String, Vec<&Missing>)> = Vec::new();
        for (missing, answer) in missing.iter().zip(answers) {
            match answer {
                Ok(found) => brought.push((missing, found)),
                Err(error) => {
                    let cause = format!("{error:#}");
                    match absent.iter_mut().find(|(other, _)| *other == cause) {
                        Some((_, images)) => images.push(missing),
                        None => absent.push((cause, vec![missing])),
                    }
                }
            }
        }
        for (cause, images) in &absent {
            event(BuildEvent::Missing(&cannot_be_had(cause, images)));
        }
        let absent: usize = absent.iter().map(|(_, images)| images.len()).sum();
        if absent > 0 {
            let is = if absent == 1 {
                "image that is"
            } else {
                "images that are"
            };
            let message = format!("{absent} container {is} named cannot be had");
            return Err(failure_hint(ExitCode::Input, message, HINT));
        }
        let blobs = brought.iter().flat_map(|(_, found)| {
            let all = found.manifests.iter().chain(&found.blobs);
            all.map(|blob| blob.digest)
        });
        self.fetched.extend(blobs);
        // Whatever ends this build, the next one does not fetch again what arrived.
        let kept = self
            .store
            .keep_fetched(&self.options.name.to_string(), self.fetched.clone());
        kept.map_err(|error| (error.exit_code(), error))
            .or_else(|(code, error)| Err(error).or_exit(code))?;
        self.lay(recipe, &brought, source, event)?;
        let materials = brought
            .iter()
            .map(|(missing, found)| Material::image(&missing.image, found.digest));
        self.materials.extend(materials);
        self.brought.extend(names.into_iter().map(|name| ContainerImage {
            image: name.to_string(),
            app_name: String::new(),
            platform: Some(recipe.platform.clone()),
        }));
        Ok(())
    }

    /// Makes layers of what was found: blobs that are in a layer that was made before do not travel again.
    fn lay(
        &mut self,
        recipe: &Recipe,
        brought: &[Brought<'_>],
        source: &mut dyn ContainerImageSource,
        event: &mut dyn FnMut(BuildEvent<'_>),
    ) -> anyhow::Result<()> {
        let rootfs = self.rootfs()?;
        let inside = self.contents(recipe, &rootfs)?;
        let images = brought.iter().map(|(missing, found)| (&missing.image, found));
        let layout = RegistryLayout::of(images, &inside).map_err(|taken| {
            let hint = "name one of them otherwise, or by its digest; what hosts have from elsewhere goes into a file for \
                        --ignored-image-list";
            failure_hint(ExitCode::Input, taken, hint)
        })?;
        let room = MAX_LAYERS.saturating_sub(self.assembly.layers().len());
        let parts = layout.parts(room, |path| rootfs.get(path).is_some());
        let mut made = Vec::new();
        for part in parts {
            let key = self.cache.key(&("REGISTRY", &part));
            made.push((key, self.cache.find(key), part));
        }
        let missing = made.iter().filter(|(_, before, _)| before.is_none());
        let missing: BTreeSet<Digest> = missing
            .flat_map(|(_, _, part)| part.blobs.iter().copied())
            .collect();
        source.fetch(&wanted(brought, missing))?;
        for (number, (key, before, part)) in made.into_iter().enumerate() {
            let made = match before {
                Some(layer) => Made::Before(layer),
                None => {
                    let layer = self.write_part(&part)?;
                    self.cache.keep(key, Some(&layer))?;
                    Made::Now(Some(layer))
                }
            };
            let text = if number == 0 {
                history(brought)
            } else {
                "container images (blobs of registry/)".to_owned()
            };
            self.put(&text, made, event)?;
        }
        Ok(())
    }

    fn write_part(&self, part: &LayoutPart) -> anyhow::Result<LayerDescriptor> {
        let file = |digest: &Digest| (data_path(digest), self.store.blobs().path(digest));
        CopyPlan::of_files(part.links.clone(), part.blobs.iter().map(file), &self.tree)
            .or_exit(ExitCode::Failed)?
            .write(self.store, &self.layer_options)
            .map_err(layer_error)
    }
}

/// Why `images` cannot be had, with where they are named.
fn cannot_be_had(cause: &str, images: &[&Missing]) -> String {
    let image = |missing: &Missing| {
        let similar = missing.similar.as_ref();
        let similar = similar.map_or(String::new(), |similar| format!(" (it has {similar})"));
        format!(
            "{}: {} is not in registry/{similar}",
            place(missing),
            missing.image
        )
    };
    match images {
        [one] => format!("{} and cannot be had: {cause}", image(one)),
        images => {
            let lines = images
                .iter()
                .take(MAX_IMAGES_SHOWN)
                .map(|one| format!("\n  {}", image(one)));
            let mut text = format!("{cause}:{}", lines.collect::<String>());
            if images.len() > MAX_IMAGES_SHOWN {
                text.push_str(&format!("\n  and {} more", images.len() - MAX_IMAGES_SHOWN));
            }
            text
        }
    }
}

fn warn_of_missing(report: &Report, event: &mut dyn FnMut(BuildEvent<'_>)) {
    for missing in &report.missing {
        let text = format!("{}: {} is not inside", place(missing), missing.image);
        event(BuildEvent::Warning(&text));
    }
}

fn warn_of_doubts(doubts: &[Doubt], event: &mut dyn FnMut(BuildEvent<'_>)) {
    for doubt in doubts.iter().take(MAX_DOUBTS_SHOWN) {
        event(BuildEvent::Warning(&format!("{}: {}", doubt.place, doubt.reason)));
    }
    if doubts.len() > MAX_DOUBTS_SHOWN {
        let text = format!(
            "and {} more; `gantry check` shows all",
            doubts.len() - MAX_DOUBTS_SHOWN
        );
        event(BuildEvent::Warning(&text));
    }
}

/// Which blobs are to be had of which image, each once.
fn wanted<'m>(
    brought: &[Brought<'m>],
    mut missing: BTreeSet<Digest>,
) -> Vec<(&'m ImageReference, Vec<Descriptor>)> {
    brought
        .iter()
        .map(|(named, found)| {
            let blobs = found.blobs.iter();
            let blobs = blobs.filter(|blob| missing.remove(&blob.digest)).cloned();
            (&named.image, blobs.collect::<Vec<_>>())
        })
        .filter(|(_, blobs)| !blobs.is_empty())
        .collect()
}

/// Where a missing image is named first.
fn place(missing: &Missing) -> String {
    missing
        .places
        .first()
        .map_or_else(String::new, ToString::to_string)
}

/// What the history of the image says about the layer.
fn history(brought: &[Brought<'_>]) -> String {
    let names = brought.iter().take(MAX_IMAGES_IN_HISTORY);
    let mut names: Vec<String> = names.map(|(missing, _)| missing.image.to_string()).collect();
    if brought.len() > names.len() {
        names.push(format!("{} more", brought.len() - names.len()));
    }
    format!("container images: {}", names.join(", "))
}
