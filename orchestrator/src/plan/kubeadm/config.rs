//! What kubeadm is given on a host: the image's documents, under the operator's, under nothing; what both leave open is
//! filled in.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use gantry_model::{ExitCode, KubeadmAct, kubeadm_api_version};
use serde_json::{Map, Value as Json, json};

use super::super::PlanImage;
use super::super::configs;
use super::super::environment::environment;
use super::super::planner::{API_SERVER, API_SERVER_PORT};
use super::super::scripts;
use crate::clusterfile::known_variables::{CGROUP_DRIVER, CGROUP_DRIVERS};
use crate::clusterfile::kubernetes::{KubernetesDocuments, KubernetesKind, plain_data};
use crate::clusterfile::{Clusterfile, Host, Role, tree};
use crate::exit::{failure, failure_hint};

const KUBELET_API: &str = "kubelet.config.k8s.io/v1beta1";
const KUBE_PROXY_API: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// Where images that configure kubeadm do it.
const KUBEADM_CONFIG: &str = "etc/kubeadm.yml";
/// Stands for the version of whatever kubeadm is told.
const KUBERNETES_VERSION: &str = "{kubernetes-version}";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// The text of kubeadm's configuration for `act` on `host`.
///
/// # Errors
/// When the image's own configuration cannot be used.
pub(super) fn of(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    act: &KubeadmAct,
) -> anyhow::Result<String> {
    text(&documents(clusterfile, image, host, act)?)
}

fn text(documents: &KubernetesDocuments) -> anyhow::Result<String> {
    let text = |document| serde_saphyr::to_string(document).context("kubeadm's configuration has no text");
    let texts: Vec<String> = documents.values().map(text).collect::<anyhow::Result<_>>()?;
    Ok(texts.join("---\n"))
}

/// What kubelets are told.
///
/// # Errors
/// As [`of`].
pub(super) fn of_kubelet(clusterfile: &Clusterfile, image: &PlanImage) -> anyhow::Result<Json> {
    let mut init = documents(clusterfile, image, clusterfile.first_master(), &KubeadmAct::Init)?;
    Ok(init
        .remove(&KubernetesKind::KubeletConfiguration)
        .unwrap_or_default())
}

/// What `first`, a control plane, is told to put into the cluster for its kubelets; none where nothing is said to them. It stays
/// the same in another version, where nothing else changes.
///
/// # Errors
/// As [`of`].
pub(super) fn for_kubelets(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    first: &Host,
) -> anyhow::Result<Option<String>> {
    if image.kubernetes.is_none() {
        return Ok(None);
    }
    let mut documents = documents(clusterfile, image, first, &KubeadmAct::Init)?;
    let of_kubelets = documents.get(&KubernetesKind::KubeletConfiguration);
    let says_something = |document: &Json| {
        let fields = document.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| *name != "kind" && *name != "apiVersion")
            .count()
            > 0
    };
    if !of_kubelets.is_some_and(says_something) {
        return Ok(None);
    }
    documents.remove(&KubernetesKind::KubeProxyConfiguration);
    if let Some(cluster) = documents
        .get_mut(&KubernetesKind::ClusterConfiguration)
        .and_then(Json::as_object_mut)
    {
        // Of no concern to kubelets.
        cluster.remove("apiServer");
        cluster.insert("kubernetesVersion".into(), KUBERNETES_VERSION.into());
    }
    text(&documents).map(Some)
}

/// Checks of kubeadm's own that the documents for `host` have only a warning of, e.g. `SystemVerification`.
///
/// # Errors
/// As [`of`].
pub(super) fn ignored_checks(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
) -> anyhow::Result<BTreeSet<String>> {
    let of_image = of_image(clusterfile, image, host)?;
    let kinds = [
        KubernetesKind::InitConfiguration,
        KubernetesKind::JoinConfiguration,
    ];
    let documents = kinds
        .iter()
        .flat_map(|kind| [of_image.get(kind), clusterfile.kubernetes.get(kind)])
        .flatten();
    let lists =
        documents.filter_map(|document| document["nodeRegistration"]["ignorePreflightErrors"].as_array());
    Ok(lists
        .flatten()
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect())
}

/// The documents for `act` on `host`.
///
/// # Errors
/// As [`of`].
pub(super) fn documents(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
    act: &KubeadmAct,
) -> anyhow::Result<KubernetesDocuments> {
    let of_image = of_image(clusterfile, image, host)?;
    let version = image
        .kubernetes
        .as_ref()
        .map_or("", |kubernetes| &kubernetes.version);
    let api = kubeadm_api_version(version);
    let kinds: &[KubernetesKind] = match act {
        KubeadmAct::Init => &[
            KubernetesKind::InitConfiguration,
            KubernetesKind::ClusterConfiguration,
            KubernetesKind::KubeletConfiguration,
            KubernetesKind::KubeProxyConfiguration,
        ],
        // The rest a host that joins has from the cluster.
        KubeadmAct::Join { .. } => &[KubernetesKind::JoinConfiguration],
        // What members were told is in the cluster.
        KubeadmAct::Reset | KubeadmAct::Upgrade { .. } => &[],
    };
    let mut documents = KubernetesDocuments::new();
    for &kind in kinds {
        let mut document = Json::Object(Map::new());
        if let Some(layer) = of_image.get(&kind) {
            merge(&mut document, layer);
        }
        if kind == KubernetesKind::KubeletConfiguration {
            cgroup_driver(&mut document, clusterfile, image, host);
        }
        if let Some(layer) = clusterfile.kubernetes.get(&kind) {
            refuse_another_version(layer, image, version)?;
            merge(&mut document, layer);
        }
        match (kind, act) {
            (KubernetesKind::InitConfiguration, _) => init(&mut document, clusterfile, image, host),
            (KubernetesKind::JoinConfiguration, KubeadmAct::Join { from, control_plane }) => {
                join(&mut document, host, *from, *control_plane);
                node(&mut document, clusterfile, image, host);
            }
            (KubernetesKind::ClusterConfiguration, _) => {
                fill(&mut document, &json!({ "kubernetesVersion": version }));
                cluster(&mut document, clusterfile, image, host);
            }
            _ => {}
        }
        let api = match kind {
            KubernetesKind::KubeletConfiguration => KUBELET_API,
            KubernetesKind::KubeProxyConfiguration => KUBE_PROXY_API,
            _ => api,
        };
        // The form that this image's kubeadm reads, whatever form the documents were written for.
        merge(&mut document, &json!({ "apiVersion": api, "kind": kind.name() }));
        documents.insert(kind, document);
    }
    Ok(documents)
}

/// The image holds one version of Kubernetes: kubeadm would look for the container images of another in vain.
fn refuse_another_version(layer: &Json, image: &PlanImage, version: &str) -> anyhow::Result<()> {
    let number = |version: &str| version.trim_start_matches('v').to_owned();
    match layer["kubernetesVersion"].as_str() {
        Some(asked) if !version.is_empty() && number(asked) != number(version) => Err(failure_hint(
            ExitCode::Input,
            format!(
                "`kubernetesVersion` of ClusterConfiguration is {asked}, and image {} brings {version}",
                image.reference
            ),
            "leave `kubernetesVersion` out of the Clusterfile, or name an image of that version in `spec.image`",
        )),
        _ => Ok(()),
    }
}

fn init(document: &mut Json, clusterfile: &Clusterfile, image: &PlanImage, host: &Host) {
    merge(
        document,
        &json!({ "localAPIEndpoint": { "advertiseAddress": host.address.to_string() } }),
    );
    node(document, clusterfile, image, host);
    // Without workers, who else should run pods?
    if clusterfile.hosts.iter().all(|host| host.role == Role::Master) {
        fill(document, &json!({ "nodeRegistration": { "taints": [] } }));
    }
}

/// The words in braces stand for what the host's pass says.
fn join(document: &mut Json, host: &Host, from: IpAddr, control_plane: bool) {
    merge(
        document,
        &json!({ "discovery": { "bootstrapToken": {
            "token": "{token}",
            "apiServerEndpoint": SocketAddr::new(from, API_SERVER_PORT).to_string(),
            "caCertHashes": ["{ca-hash}"],
        } } }),
    );
    if control_plane {
        merge(
            document,
            &json!({ "controlPlane": {
                "certificateKey": "{certificate-key}",
                "localAPIEndpoint": { "advertiseAddress": host.address.to_string() },
            } }),
        );
    } else if let Some(fields) = document.as_object_mut() {
        // With it, whatever it says, the host would become a control plane.
        fields.remove("controlPlane");
    }
}

/// What the environment says of kubelets: more than the image's file, less than the operator's document.
fn cgroup_driver(document: &mut Json, clusterfile: &Clusterfile, image: &PlanImage, host: &Host) {
    let env = environment(clusterfile, image, host);
    let driver = env.get(CGROUP_DRIVER);
    // An image's own variable may be meant for something else.
    if let Some(driver) = driver.filter(|driver| CGROUP_DRIVERS.contains(&driver.as_str())) {
        merge(document, &json!({ "cgroupDriver": driver }));
    }
}

/// How a host registers itself.
fn node(document: &mut Json, clusterfile: &Clusterfile, image: &PlanImage, host: &Host) {
    fill(
        document,
        &json!({ "nodeRegistration": { "kubeletExtraArgs": { "node-ip": host.address.to_string() } } }),
    );
    if scripts::runtime(clusterfile, image) == "containerd" {
        fill(
            document,
            &json!({ "nodeRegistration": { "criSocket": CONTAINERD_SOCKET } }),
        );
    }
}

fn cluster(document: &mut Json, clusterfile: &Clusterfile, image: &PlanImage, host: &Host) {
    let registry = &clusterfile.registry;
    merge(
        document,
        &json!({ "controlPlaneEndpoint": format!("{API_SERVER}:{API_SERVER_PORT}") }),
    );
    fill(
        document,
        &json!({ "imageRepository": format!("{}:{}", registry.domain, registry.port) }),
    );
    let env = environment(clusterfile, image, host);
    for (variable, field) in [("PodCIDR", "podSubnet"), ("SvcCIDR", "serviceSubnet")] {
        if let Some(range) = env.get(variable) {
            fill(document, &json!({ "networking": { field: range } }));
        }
    }
    let masters = clusterfile.hosts.iter().filter(|host| host.role == Role::Master);
    let names = [API_SERVER.to_owned(), "127.0.0.1".to_owned()]
        .into_iter()
        .chain(
            env.get("CertSANs")
                .into_iter()
                .flat_map(|names| names.split(',').map(str::trim).map(str::to_owned)),
        )
        .chain(masters.map(|host| host.address.to_string()));
    let mut sans = document["apiServer"]["certSANs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for name in names.filter(|name| !name.is_empty()) {
        if !sans.contains(&Json::String(name.clone())) {
            sans.push(name.into());
        }
    }
    merge(document, &json!({ "apiServer": { "certSANs": sans } }));
}

/// The documents of the image's own file, with this host's values where it is a template.
fn of_image(
    clusterfile: &Clusterfile,
    image: &PlanImage,
    host: &Host,
) -> anyhow::Result<KubernetesDocuments> {
    let file = image
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.config.as_ref());
    let path = file.map_or(KUBEADM_CONFIG, |file| file.path.as_str());
    let wrong = |what: String| {
        failure(
            ExitCode::Input,
            format!("{path} of image {}: {what}", image.reference),
        )
    };
    let text = match file {
        Some(file) if file.is_template() => {
            let values = environment(clusterfile, image, host);
            let rendered = gantry_template::render(&file.text, &values);
            Some(rendered.map_err(|error| wrong(error.to_string()))?)
        }
        file => file.map(|file| file.text.clone()),
    };
    // The same file as the host has.
    let path_of_text = gantry_template::target(path).unwrap_or(path);
    let Some(text) = configs::applied(clusterfile, path_of_text, text).map_err(wrong)? else {
        return Ok(KubernetesDocuments::new());
    };
    let (documents, mistakes) = tree::parse(&text);
    if let Some(mistake) = mistakes.first() {
        return Err(wrong(mistake.message.clone()));
    }
    let mut found = KubernetesDocuments::new();
    for document in &documents {
        let kind = document
            .get("kind")
            .and_then(|kind| kind.text())
            .unwrap_or_default();
        let Some(kind) = KubernetesKind::of(kind) else {
            return Err(wrong(format!(
                "{kind:?} is no kind of document that kubeadm reads"
            )));
        };
        found.insert(kind, plain_data(document));
    }
    Ok(found)
}

/// Puts `over` on top: mappings are merged, everything else is replaced.
fn merge(document: &mut Json, over: &Json) {
    match (document, over) {
        (Json::Object(fields), Json::Object(over)) => {
            for (name, value) in over {
                merge(fields.entry(name.clone()).or_insert(Json::Null), value);
            }
        }
        (document, over) => *document = over.clone(),
    }
}

/// Fills in what `document` leaves open.
fn fill(document: &mut Json, under: &Json) {
    match (document, under) {
        (Json::Object(fields), Json::Object(under)) => {
            for (name, value) in under {
                fill(fields.entry(name.clone()).or_insert(Json::Null), value);
            }
        }
        (document @ Json::Null, under) => *document = under.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_word_wins_and_gaps_are_filled() {
        let mut document = json!({ "a": { "x": 1, "list": [1, 2] } });
        merge(&mut document, &json!({ "a": { "x": 2, "list": [3] }, "b": true }));
        fill(
            &mut document,
            &json!({ "a": { "x": 9, "y": 9 }, "b": false, "c": "new" }),
        );
        assert_eq!(
            document,
            json!({ "a": { "x": 2, "y": 9, "list": [3] }, "b": true, "c": "new" })
        );
    }
}
