//! Which files of a rootfs name container images, and how each is read (sealer's places: `manifests/`, `charts/`,
//! `application/apps/`, lists in `imageList`).

use gantry_store::{EntryKind, LayerError, Rootfs};
use gantry_template::{render, target};

use super::charts;
use super::image_list;
use super::kubernetes_yaml;
use super::references::{Place, References};
use super::template_values::TemplateValues;
use crate::clusterfile::Mistakes;

/// Folders that are scanned, at any depth.
const FOLDERS: [&str; 2] = ["manifests/", "application/apps/"];
/// A list of container images.
const IMAGE_LIST: &str = "imageList";
/// Largest file that is scanned, in bytes: what Kubernetes takes is smaller by far, bundles of it are not.
const MAX_FILE_LEN: u64 = 16 << 20;
/// What a value that nobody gives is in a rendered template.
const NO_VALUE: &str = "<no value>";

/// What scanning found: references, and mistakes of lists, which are written by hand for this purpose alone.
#[derive(Debug, Default)]
pub struct Scan {
    /// The container images that are named.
    pub references: References,
    /// What is wrong in lists.
    pub mistakes: Vec<Mistakes>,
}

/// The container images that files of `rootfs` name. Templates get `values`.
///
/// # Errors
/// When a file is damaged.
pub fn scan(rootfs: &Rootfs, values: &TemplateValues) -> Result<Scan, LayerError> {
    let mut scan = Scan::default();
    let charts = charts::folders(rootfs);
    for folder in FOLDERS {
        for (path, entry) in rootfs.below(folder) {
            if let EntryKind::File { size, .. } = entry.kind
                && is_scanned(path)
                && !charts.iter().any(|chart| path.starts_with(chart.as_str()))
            {
                scan.file(rootfs, path, size, values)?;
            }
        }
    }
    charts::find(rootfs, &charts, values, &mut scan.references)?;
    Ok(scan)
}

/// Whether a file of this path names images.
fn is_scanned(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    name == IMAGE_LIST || matches!(ending, "yaml" | "yml" | "json" | "tmpl")
}

impl Scan {
    fn file(
        &mut self,
        rootfs: &Rootfs,
        path: &str,
        size: u64,
        values: &TemplateValues,
    ) -> Result<(), LayerError> {
        let whole = || Place {
            file: path.to_owned(),
            line: None,
        };
        if size > MAX_FILE_LEN {
            let reason = format!(
                "it is larger than {} MiB and was not looked at",
                MAX_FILE_LEN >> 20
            );
            self.references.doubt(whole(), reason);
            return Ok(());
        }
        let mut bytes = Vec::new();
        rootfs.copy_file(path, &mut bytes)?;
        let Ok(text) = String::from_utf8(bytes) else {
            self.references
                .doubt(whole(), "it is not UTF-8 text and was not looked at");
            return Ok(());
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        if name == IMAGE_LIST {
            self.list(path, text);
        } else if target(name).is_some() {
            self.template(path, &text, values);
        } else {
            let line = |at: usize, name: &str| Some(line_of(&text, at, name));
            kubernetes_yaml::find(&text, path, &line, &mut self.references);
        }
        Ok(())
    }

    fn list(&mut self, path: &str, text: String) {
        match image_list::parse(&text) {
            Ok(images) => {
                for (image, line) in images {
                    let place = Place {
                        file: path.to_owned(),
                        line: Some(line),
                    };
                    self.references.add_image(image, place);
                }
            }
            Err(mistakes) => self.mistakes.push(Mistakes::new(path, text, mistakes)),
        }
    }

    /// A template is scanned as it is rendered with what the image says itself. A name that needs more cannot be told.
    fn template(&mut self, path: &str, text: &str, values: &TemplateValues) {
        let rendered = match render(text, values.at(path)) {
            Ok(rendered) => rendered,
            Err(error) => {
                let place = Place {
                    file: path.to_owned(),
                    line: None,
                };
                let reason = format!(
                    "it cannot be rendered with the image's environment, so its lines were looked at: {error}"
                );
                self.references.doubt(place, reason);
                let line = |at: usize, name: &str| Some(line_of(text, at, name));
                return kubernetes_yaml::lines(text, path, &line, &mut self.references);
            }
        };
        // Where a name stands in the template: rendering moves lines.
        let line = |_: usize, name: &str| {
            let last = name.rsplit('/').next().filter(|last| !last.is_empty())?;
            let lines = text.lines().enumerate();
            let mut holding = lines
                .filter(|(_, line)| line.contains(last))
                .map(|(number, _)| number + 1);
            holding.next()
        };
        let mut found = References::default();
        kubernetes_yaml::find(&rendered, path, &line, &mut found);
        for doubt in found.doubts() {
            let reason = if doubt.reason.contains(NO_VALUE) {
                format!("{}: the image has no value for it", doubt.reason)
            } else {
                doubt.reason.clone()
            };
            self.references.doubt(doubt.place.clone(), reason);
        }
        for (image, places) in found.iter() {
            for place in places {
                self.references.add_image(image.clone(), place.clone());
            }
        }
    }
}

/// The line, from 1, on which `name` stands, which was met at the byte `at` or a few lines after it.
fn line_of(text: &str, at: usize, name: &str) -> usize {
    let at = text.floor_char_boundary(at);
    let here = text[..at].matches('\n').count() + 1;
    if name.is_empty() {
        return here;
    }
    text[at..]
        .find(name)
        .map_or(here, |more| here + text[at..at + more].matches('\n').count())
}
