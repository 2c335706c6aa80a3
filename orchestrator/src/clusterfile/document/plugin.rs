//! The text shape of documents of kind Plugin.

use schemars::JsonSchema;

use super::ConfigApiVersion;

/// Something that is done to hosts beside what the image brings
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginDocument {
    /// Version of this format
    pub api_version: Option<ConfigApiVersion>,
    /// Kind of document
    pub kind: PluginKind,
    /// Names the plugin
    pub metadata: PluginMetadata,
    /// What is done
    pub spec: PluginSpec,
}

/// Kind of document
#[derive(Debug, JsonSchema)]
pub enum PluginKind {
    /// Something that is done to hosts
    Plugin,
}

/// Names the plugin
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginMetadata {
    /// Name of the plugin: 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'
    pub name: String,
}

/// What is done
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PluginSpec {
    /// What kind of thing is done
    #[serde(rename = "type")]
    pub kind: PluginType,
    /// When, with '|' between: before hosts' scripts (PreInit, PreJoin, pre-init-host), when hosts have joined (PostJoin,
    /// post-init-host), before and after the image's commands (PreGuest, PostInstall), when hosts leave (PreClean, PostClean,
    /// pre-clean-host, post-clean-host), before the scripts of hosts that come from an older image (upgrade-host), and on the first master
    /// pre-install, post-install, upgrade, rollback, pre-uninstall, post-uninstall
    pub action: String,
    /// For type SHELL the hosts: roles, master0, addresses, ranges of them, LABEL=VALUE, with ',' between [default: all]
    pub on: Option<String>,
    /// As `on`, with '|' between; phases of the whole cluster run on the first master
    pub scope: Option<String>,
    /// For type SHELL what bash is given, in the rootfs; for type HOSTNAME lines of ADDRESS NAME; for type LABEL lines of ADDRESSES KEY=VALUE,KEY=VALUE; for type TAINT lines of ADDRESSES KEY=VALUE:EFFECT
    pub data: Option<String>,
}

/// What kind of thing a plugin does
#[derive(Debug, JsonSchema)]
pub enum PluginType {
    /// Commands run, on hosts whose agent allows it
    #[serde(rename = "SHELL")]
    Shell,
    /// Hosts get names, which their nodes have
    #[serde(rename = "HOSTNAME")]
    Hostname,
    /// Nodes get labels
    #[serde(rename = "LABEL")]
    Label,
    /// Nodes get taints
    #[serde(rename = "TAINT")]
    Taint,
    /// Waits until every pod of kube-system is ready, before commands run
    #[serde(rename = "CLUSTERCHECK")]
    ClusterCheck,
}
