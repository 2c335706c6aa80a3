//! The JSON Schemas of a Clusterfile's documents, made from the types of [`super::document`].

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::document::{ApplicationDocument, ConfigDocument, Document, DocumentV1, PluginDocument};
use super::kubernetes::{KUBEADM_CONFIG, KubernetesKind};

/// The schema of every document, for `gantry schema` and for editors.
#[must_use]
pub fn schema() -> Value {
    // kubeadm knows what is in its own; KubeadmConfig has fields of each of them.
    let kinds = KubernetesKind::ALL.map(KubernetesKind::name);
    let kinds: Vec<&str> = kinds.into_iter().chain([KUBEADM_CONFIG]).collect();
    let kubernetes = json!({
        "description": "What Kubernetes itself is told",
        "type": "object",
        "required": ["kind"],
        "properties": { "kind": { "enum": kinds } },
    });
    let mut any = [
        cluster(),
        config(),
        plugin(),
        kubernetes,
        first_version(),
        application(),
    ];
    let version = any[0]["$schema"].take();
    for one in &mut any {
        if let Some(fields) = one.as_object_mut() {
            fields.remove("$schema");
        }
    }
    json!({ "$schema": version, "title": "Clusterfile", "anyOf": any })
}

/// The schema of a document of kind Cluster.
pub(super) fn cluster() -> Value {
    of::<Document>("Cluster")
}

/// The schema of a document of kind Cluster in the first version of the format.
pub(super) fn first_version() -> Value {
    of::<DocumentV1>("Cluster, first version")
}

/// The schema of a document of kind Application.
pub(super) fn application() -> Value {
    of::<ApplicationDocument>("Application")
}

/// The schema of a document of kind Config.
pub(super) fn config() -> Value {
    of::<ConfigDocument>("Config")
}

/// The schema of a document of kind Plugin.
pub(super) fn plugin() -> Value {
    of::<PluginDocument>("Plugin")
}

fn of<T: JsonSchema>(kind: &str) -> Value {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".into(), kind.into());
    schema.to_value()
}
