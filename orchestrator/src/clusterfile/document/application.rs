//! The text shape of documents of kind Application.

use schemars::JsonSchema;

use super::{ConfigApiVersion, ConfigMetadata, ConfigStrategy};

/// What is launched when the cluster is complete, and with which settings
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationDocument {
    /// Version of this format
    pub api_version: Option<ConfigApiVersion>,
    /// Kind of document
    pub kind: ApplicationKind,
    /// Names the document
    pub metadata: Option<ConfigMetadata>,
    /// What is launched
    pub spec: ApplicationSpec,
}

/// Kind of document
#[derive(Debug, JsonSchema)]
pub enum ApplicationKind {
    /// The applications of the image
    Application,
}

/// What is launched
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationSpec {
    /// Commands run on the first master in the place of what the image launches, where its agent allows it
    #[serde(default)]
    pub cmds: Vec<String>,
    /// The applications of the image that are launched, in order; [""] launches none [default: those that the image launches]
    pub launch_apps: Option<Vec<String>>,
    /// Settings of single applications
    #[serde(default)]
    pub configs: Vec<ApplicationConfig>,
}

/// Settings of one application
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationConfig {
    /// Name of the application
    pub name: String,
    /// Environment of its commands, over what the image has for it: NAME=VALUE
    #[serde(default)]
    pub env: Vec<String>,
    /// What files of its folder shall be
    #[serde(default)]
    pub files: Vec<ApplicationFile>,
    /// How it is launched [default: as the image says]
    pub launch: Option<ApplicationLaunch>,
}

/// What one file of an application shall be
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationFile {
    /// The file, below the application's folder, e.g. values.yaml
    pub path: String,
    /// Its text, or what is merged into it
    pub data: String,
    /// What is done with the data [default: overwrite]
    pub strategy: Option<ConfigStrategy>,
}

/// How an application is launched
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationLaunch {
    /// Commands run in the application's folder, one after the other, where the first master's agent allows it
    #[serde(default)]
    pub cmds: Vec<String>,
}
