//! This module owns [`Chart`]: the files of a chart, read, with the charts that it brings along.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value as Json};

use crate::clusterfile::yaml::Yaml;

/// What makes a folder a chart.
const CHART_FILE: &str = "Chart.yaml";
/// A chart's own values.
const VALUES_FILE: &str = "values.yaml";
/// How deep charts may lie in charts.
const MAX_NESTING: usize = 8;
/// Bytes of all files of a packed chart.
const MAX_PACKED_LEN: u64 = 32 << 20;
/// Files of a packed chart.
const MAX_PACKED_FILES: usize = 10_000;

/// A chart.
#[derive(Debug, Clone, Default)]
pub struct Chart {
    /// Its name, as `Chart.yaml` says, or as the chart that brings it calls it.
    pub name: String,
    /// What `Chart.yaml` says.
    pub metadata: Map<String, Json>,
    /// Its own values.
    pub values: Json,
    /// Its templates, by their paths in the chart.
    pub templates: BTreeMap<String, String>,
    /// Its other files, by their paths in the chart.
    pub files: BTreeMap<String, String>,
    /// The charts in it.
    pub charts: Vec<Self>,
}

/// Why files are no chart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct ChartError {
    /// The file, by its path in the chart.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Chart {
    /// The chart that consists of `files`, by their paths in it. Files that are no text belong to none.
    ///
    /// # Errors
    /// When `Chart.yaml` or values are not YAML, or a packed chart in it cannot be read.
    pub fn of(files: BTreeMap<String, Vec<u8>>) -> Result<Self, ChartError> {
        Self::nested(files, 0)
    }

    /// The chart in a packed chart (`.tgz`), whose files lie in one folder.
    ///
    /// # Errors
    /// When it is not packed, too large, or as [`Chart::of`].
    pub fn unpack(packed: &[u8]) -> Result<Self, String> {
        Self::of(unpack(packed)?).map_err(|error| error.to_string())
    }

    fn nested(files: BTreeMap<String, Vec<u8>>, nesting: usize) -> Result<Self, ChartError> {
        let mut chart = Self::default();
        let mut below: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        for (path, bytes) in files {
            if let Some(rest) = path.strip_prefix("charts/") {
                if nesting == MAX_NESTING {
                    continue;
                }
                match rest.split_once('/') {
                    Some((name, rest)) => {
                        below
                            .entry(name.to_owned())
                            .or_default()
                            .insert(rest.to_owned(), bytes);
                    }
                    None if rest.ends_with(".tgz") => {
                        let error = |reason| ChartError {
                            file: path.clone(),
                            reason,
                        };
                        below.insert(rest.to_owned(), unpack(&bytes).map_err(error)?);
                    }
                    None => {}
                }
                continue;
            }
            let Ok(text) = String::from_utf8(bytes) else {
                continue;
            };
            match path.as_str() {
                CHART_FILE => {
                    if let Json::Object(metadata) = yaml(&path, &text)? {
                        chart.metadata = metadata;
                    }
                }
                VALUES_FILE => chart.values = yaml(&path, &text)?,
                _ if path.starts_with("templates/") => {
                    chart.templates.insert(path, text);
                }
                _ => {
                    chart.files.insert(path, text);
                }
            }
        }
        let name = chart.metadata.get("name").and_then(Json::as_str);
        chart.name = name.unwrap_or("chart").to_owned();
        for (name, files) in below {
            // Whatever lies in charts/ and is none.
            if !files.contains_key(CHART_FILE) {
                continue;
            }
            let within = |error: ChartError| ChartError {
                file: format!("charts/{name}/{}", error.file),
                reason: error.reason,
            };
            chart
                .charts
                .push(Self::nested(files, nesting + 1).map_err(within)?);
        }
        Ok(chart)
    }
}

fn yaml(file: &str, text: &str) -> Result<Json, ChartError> {
    let documents = Yaml::documents(text).map_err(|reason| ChartError {
        file: file.to_owned(),
        reason,
    })?;
    Ok(documents.first().map_or(Json::Null, Yaml::to_json))
}

/// The files of a packed chart, without the folder that they lie in.
fn unpack(packed: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let unpacked = MultiGzDecoder::new(packed).take(MAX_PACKED_LEN);
    let mut archive = tar::Archive::new(unpacked);
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if files.len() == MAX_PACKED_FILES {
            return Err(format!("it has more than {MAX_PACKED_FILES} files"));
        }
        let path = entry.path().map_err(|error| error.to_string())?;
        let Some((_, path)) = path
            .to_str()
            .and_then(|path| path.trim_start_matches("./").split_once('/'))
        else {
            continue;
        };
        let path = path.to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        files.insert(path, bytes);
    }
    Ok(files)
}
