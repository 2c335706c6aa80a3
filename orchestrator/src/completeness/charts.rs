//! Container images that charts start: those of the rootfs' `charts/`, and applications that are charts.

use std::collections::BTreeMap;

use gantry_store::{EntryKind, LayerError, Rootfs};
use gantry_template::{render as render_template, target};

use super::kubeadm::kubernetes_version;
use super::kubernetes_yaml;
use super::references::{Place, References};
use super::template_values::TemplateValues;
use crate::charts::{ChartSource, Rendered, render_apart};

/// Where charts lie.
const FOLDERS: [&str; 2] = ["charts/", "application/apps/"];
/// What makes a folder a chart.
const CHART_FILE: &str = "Chart.yaml";
/// Bytes of all files of a chart.
const MAX_CHART_LEN: u64 = 32 << 20;

/// The folders that are charts, with a `/` at the end; charts in charts belong to those.
pub(super) fn folders(rootfs: &Rootfs) -> Vec<String> {
    let mut folders: Vec<String> = Vec::new();
    for top in FOLDERS {
        let mut found: Vec<&str> = rootfs
            .below(top)
            .filter_map(|(path, _)| path.strip_suffix(CHART_FILE))
            .filter(|folder| folder.ends_with('/') && *folder != top)
            .collect();
        found.sort_unstable();
        for folder in found {
            if !folders.iter().any(|known| folder.starts_with(known.as_str())) {
                folders.push(folder.to_owned());
            }
        }
    }
    folders
}

/// Adds what the charts in `folders`, and packed charts beside them, start with their own values.
///
/// # Errors
/// When a file is damaged.
pub(super) fn find(
    rootfs: &Rootfs,
    folders: &[String],
    values: &TemplateValues,
    found: &mut References,
) -> Result<(), LayerError> {
    let kubernetes = kubernetes_version(rootfs)?;
    let kubernetes = kubernetes.as_deref();
    for folder in folders {
        let Some(files) = files(rootfs, folder, values, found)? else {
            continue;
        };
        let texts: BTreeMap<String, String> = files
            .iter()
            .filter_map(|(path, bytes)| Some((path.clone(), String::from_utf8(bytes.clone()).ok()?)))
            .collect();
        match render_apart(ChartSource::Files(files), kubernetes) {
            Ok(rendered) => look(rendered, folder, &texts, found),
            Err(reason) => found.doubt(place(folder, None), reason),
        }
    }
    for top in FOLDERS {
        for (path, entry) in rootfs.below(top) {
            let is_packed =
                path.ends_with(".tgz") && !folders.iter().any(|folder| path.starts_with(folder.as_str()));
            let EntryKind::File { size, .. } = entry.kind else {
                continue;
            };
            if !is_packed {
                continue;
            }
            if size > MAX_CHART_LEN {
                found.doubt(place(path, None), too_large());
                continue;
            }
            let mut packed = Vec::new();
            rootfs.copy_file(path, &mut packed)?;
            match render_apart(ChartSource::Packed(packed), kubernetes) {
                Ok(rendered) => look(rendered, &format!("{path}: "), &BTreeMap::new(), found),
                Err(reason) => found.doubt(place(path, None), reason),
            }
        }
    }
    Ok(())
}

/// The files of a chart, templates of the image rendered; none when there are too many.
fn files(
    rootfs: &Rootfs,
    folder: &str,
    values: &TemplateValues,
    found: &mut References,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, LayerError> {
    let (mut files, mut left) = (BTreeMap::new(), MAX_CHART_LEN);
    for (path, entry) in rootfs.below(folder) {
        let EntryKind::File { size, .. } = entry.kind else {
            continue;
        };
        let Some(rest) = left.checked_sub(size) else {
            found.doubt(place(folder, None), too_large());
            return Ok(None);
        };
        left = rest;
        let mut bytes = Vec::new();
        rootfs.copy_file(path, &mut bytes)?;
        let name = &path[folder.len()..];
        let rendered = target(name).and_then(|made| {
            let text = std::str::from_utf8(&bytes).ok()?;
            Some((
                made.to_owned(),
                render_template(text, values.at(path)).ok()?.into_bytes(),
            ))
        });
        files.insert(name.to_owned(), bytes);
        // `values.yaml.tmpl` comes after `values.yaml`, and in the place of it, as on hosts.
        files.extend(rendered);
    }
    Ok(Some(files))
}

/// Adds what a chart starts. A name stands where the chart's values have it, else where a template does.
fn look(all: Vec<Rendered>, folder: &str, texts: &BTreeMap<String, String>, found: &mut References) {
    for rendered in all {
        let file = format!("{folder}{}", rendered.template);
        let text = match rendered.text {
            Ok(text) => text,
            Err(reason) => {
                if let Some(text) = texts.get(&rendered.template) {
                    kubernetes_yaml::lines(text, &file, &|_, _| None, found);
                }
                found.doubt(
                    place(&file, None),
                    format!("it cannot be rendered with the chart's own values: {reason}"),
                );
                continue;
            }
        };
        if rendered.lost_changes {
            found.doubt(
                place(&file, None),
                "it changes a mapping that is used elsewhere, too (set, merge): helm may make something else of it",
            );
        }
        let mut here = References::default();
        kubernetes_yaml::find(&text, &file, &|_, _| None, &mut here);
        for doubt in here.doubts() {
            found.doubt(doubt.place.clone(), doubt.reason.clone());
        }
        for (image, _) in here.iter() {
            let said = said(image.name(), &rendered.template, texts);
            let place = said.map_or_else(
                || place(&file, None),
                |(file, line)| place(&format!("{folder}{file}"), Some(line)),
            );
            found.add_image(image.clone(), place);
        }
    }
}

/// File and line of a chart that has this name, or the last word of it.
fn said<'t>(name: &str, template: &'t str, texts: &'t BTreeMap<String, String>) -> Option<(&'t str, usize)> {
    let last = name.rsplit('/').next()?;
    let values = |(path, _): &(&String, &String)| path.ends_with("values.yaml");
    let named = |wanted: &str| {
        let in_values = texts.iter().filter(values);
        let in_template = texts.get_key_value(template);
        let mut all = in_values.chain(in_template).filter_map(|(path, text)| {
            let line = text.lines().position(|line| line.contains(wanted))?;
            Some((path.as_str(), line + 1))
        });
        all.next()
    };
    named(name)
        .or_else(|| named(&format!("/{last}")))
        .or_else(|| named(last))
}

fn too_large() -> String {
    format!(
        "it is larger than {} MiB and was not looked at",
        MAX_CHART_LEN >> 20
    )
}

fn place(file: &str, line: Option<usize>) -> Place {
    Place {
        file: file.to_owned(),
        line,
    }
}
