//! From the tree to the meaning. Names and kinds of values are checked by [`super::structure`]; whatever has the
//! wrong kind is passed over here, so that one run finds every mistake.

mod application;
mod config;
mod env;
pub(super) mod first_version;
mod hosts;
pub(crate) mod known_variables;
mod kubeadm_config;
mod kubernetes;
mod kubernetes_fields;
mod marks;
pub(super) mod plugin;
mod process;
mod registry;

use gantry_model::{ClusterName, ImageReference};

use super::Clusterfile;
use super::kubernetes::{KUBEADM_CONFIG, KubernetesDocuments, KubernetesKind};
use super::mistake::Mistake;
use super::schema;
use super::spelling::closest;
use super::structure;
use super::tree::{Node, Value};
use super::unsupported::KINDS;
use application::APPLICATION;
use plugin::KIND as PLUGIN;

/// The kind of documents that are about one file.
const CONFIG: &str = "Config";
const DATA_ROOT: &str = "/var/lib/sealer/data";

/// The meaning of a file's documents and notes about it; none when a mistake leaves something open.
pub(super) fn clusterfile(
    documents: &[Node],
    text: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<(Clusterfile, Vec<String>)> {
    let (mut clusters, mut of_kubernetes) = (Vec::new(), KubernetesDocuments::new());
    let (mut configs, mut plugins) = (config::Configs::default(), Vec::new());
    let mut applications = application::Application::default();
    let mut notes = Vec::new();
    for document in documents {
        let kind = document.get("kind").and_then(Node::text);
        if let Some(kind) = kind.and_then(KubernetesKind::of) {
            kubernetes::document(document, kind, &mut of_kubernetes, mistakes);
            if kind == KubernetesKind::KubeletConfiguration {
                notes.extend(kubernetes_fields::notes(document, text));
            }
        } else if kind == Some(KUBEADM_CONFIG) {
            kubeadm_config::document(document, &mut of_kubernetes, mistakes, &mut notes);
        } else if kind == Some(CONFIG) {
            mistakes.extend(structure::check(document, &schema::config()));
            configs.document(document, mistakes, &mut notes);
        } else if kind == Some(APPLICATION) {
            applications.document(document, &mut configs, mistakes, &mut notes);
        } else if kind == Some(PLUGIN) {
            plugins.extend(plugin::document(document, mistakes));
        } else if is_cluster(document, mistakes) {
            clusters.push(document);
        }
    }
    let Some((cluster, more)) = clusters.split_first() else {
        if mistakes.is_empty() {
            let end = text.trim_end().len();
            let mistake = Mistake::new(end..end, "there is no document of kind Cluster in this file");
            mistakes.push(mistake.help("`gantry schema` prints what one looks like"));
        }
        return None;
    };
    for another in more {
        let mistake = Mistake::new(another.span.clone(), "a second document of kind Cluster");
        mistakes.push(
            mistake
                .beside(cluster.span.clone(), "the first")
                .help("one file is one cluster"),
        );
    }
    let second;
    let cluster = if first_version::is(cluster) {
        mistakes.extend(structure::check(cluster, &schema::first_version()));
        second = first_version::to_second(cluster, mistakes, &mut notes);
        &second
    } else {
        mistakes.extend(structure::check(cluster, &schema::cluster()));
        cluster
    };
    if let Some(spec) = cluster.get("spec") {
        known_variables::check(spec, documents, &of_kubernetes, mistakes, &mut notes);
    }
    let (mut clusterfile, mut notes) =
        meaning(cluster, of_kubernetes, configs, applications, mistakes, notes)?;
    clusterfile.plugins = plugins.iter().map(plugin::Plugin::name).collect();
    plugin::take(&plugins, text, &mut clusterfile, mistakes, &mut notes);
    notes.dedup();
    Some((clusterfile, notes))
}

fn meaning(
    cluster: &Node,
    of_kubernetes: KubernetesDocuments,
    configs: config::Configs,
    applications: application::Application<'_>,
    mistakes: &mut Vec<Mistake>,
    mut notes: Vec<String>,
) -> Option<(Clusterfile, Vec<String>)> {
    let name = cluster
        .get("metadata")
        .and_then(|metadata| name(metadata, mistakes));
    let spec = cluster.get("spec")?;
    let image = image(spec, mistakes);
    let env = spec
        .get("env")
        .map(|list| env::variables(list, mistakes, &mut notes))
        .unwrap_or_default();
    let hosts = hosts::hosts(spec.get("hosts"), mistakes, &mut notes);
    let registry = registry::registry(spec, mistakes, &mut notes);
    let host_aliases = registry::host_aliases(spec, mistakes);
    let runtime = spec
        .get("containerRuntime")
        .and_then(|runtime| runtime.get("type")?.text())
        .map(str::to_owned);
    data_root(spec, mistakes);
    if spec.get("ssh").is_some() {
        notes.push("`ssh` is not used: agents are enrolled, nothing goes over ssh".into());
    }
    let command_arguments = spec
        .get("cmd_args")
        .map(|list| env::variables(list, mistakes, &mut notes))
        .unwrap_or_default();
    let (applications, commands) = applications.launched(spec, mistakes, &mut notes);
    let clusterfile = Clusterfile {
        name: name?,
        image: image?,
        env,
        hosts,
        registry,
        runtime,
        host_aliases,
        kubernetes: of_kubernetes,
        configs: configs.list,
        commands,
        plugins: Default::default(),
        cluster_check: None,
        command_arguments,
        applications,
    };
    Some((clusterfile, notes))
}

/// Whether this document is a Cluster; anything else is a mistake, named.
fn is_cluster(document: &Node, mistakes: &mut Vec<Mistake>) -> bool {
    if !matches!(document.value, Value::Map(_)) {
        let mistake = Mistake::new(
            document.span.clone(),
            format!("a document has to be a mapping, this is {}", document.kind()),
        );
        mistakes.push(mistake.help("it starts with `apiVersion: sealer.io/v2`"));
        return false;
    }
    // Without its kind a document is taken for a Cluster, so that its other mistakes are found too.
    let Some(kind) = document.get("kind") else {
        return true;
    };
    let Some(word) = kind.text().filter(|word| *word != "Cluster") else {
        return true;
    };
    let mistake = if let Some((_, instead)) = KINDS.iter().find(|(kind, _)| *kind == word) {
        Mistake::new(
            kind.span.clone(),
            format!("kind {word} is not supported by this version"),
        )
        .help(*instead)
    } else {
        let mistake = Mistake::new(kind.span.clone(), format!("there is no kind {word:?}"));
        let kubernetes = KubernetesKind::ALL.map(KubernetesKind::name);
        let known = KINDS.iter().map(|(kind, _)| *kind).chain([
            "Cluster",
            APPLICATION,
            CONFIG,
            PLUGIN,
            KUBEADM_CONFIG,
        ]);
        match closest(word, known.chain(kubernetes)) {
            // The structure walk says it, with the other mistakes of the document.
            Some("Cluster") => return true,
            Some(meant)
                if [APPLICATION, CONFIG, PLUGIN, KUBEADM_CONFIG].contains(&meant)
                    || kubernetes.contains(&meant) =>
            {
                mistake.help(format!("did you mean `{meant}`?"))
            }
            Some(meant) => mistake.help(format!(
                "did you mean `{meant}`? It is not supported by this version"
            )),
            None => mistake.help("a Clusterfile has one document of kind Cluster"),
        }
    };
    mistakes.push(mistake);
    false
}

fn name(metadata: &Node, mistakes: &mut Vec<Mistake>) -> Option<ClusterName> {
    let name = metadata.get("name")?;
    match name.text()?.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let error: gantry_model::ClusterNameError = error;
            mistakes.push(Mistake::new(name.span.clone(), error.to_string()));
            None
        }
    }
}

fn image(spec: &Node, mistakes: &mut Vec<Mistake>) -> Option<ImageReference> {
    let image = spec.get("image")?;
    match image.text()?.parse::<ImageReference>() {
        Ok(reference) => Some(reference),
        Err(error) => {
            mistakes.push(Mistake::new(image.span.clone(), error.to_string()));
            None
        }
    }
}

fn data_root(spec: &Node, mistakes: &mut Vec<Mistake>) {
    let Some(data_root) = spec.get("dataRoot") else {
        return;
    };
    if data_root
        .text()
        .is_some_and(|path| path.trim_end_matches('/') != DATA_ROOT)
    {
        let message = format!(
            "`spec.dataRoot` cannot be {:?}",
            data_root.text().unwrap_or_default()
        );
        let help = format!(
            "leave it out: rootfs folders lie below /var/lib/gantry/data, and {DATA_ROOT} leads there"
        );
        mistakes.push(Mistake::new(data_root.span.clone(), message).help(help));
    }
}
