//! Container images in Kubernetes documents. Whoever writes operators names images in more fields than `image`: what is
//! told here is every field that says so, in every kind of document but schemas.

use crate::clusterfile::tree::{self, Bounds, Entry, Node, Value};

use super::references::{Place, References};

/// Bounds of one file: bundles of definitions are long and nested deep.
const BOUNDS: Bounds = Bounds {
    nodes: 500_000,
    depth: 128,
    documents: 4096,
};
/// How deep documents within texts of documents are read: a ConfigMap that holds a pod.
const MAX_TEXTS: usize = 2;
/// Bytes of all documents within texts of one file; what an alias repeats is read again.
const MAX_TEXTS_LEN: usize = 8 << 20;
/// What has pods, by how the names of its lists end.
const CONTAINERS: &str = "ontainers";
/// What names an image, by how the names of fields end, in small letters.
const IMAGE_FIELDS: [&str; 3] = ["image", "imagename", "imageref"];
/// What kubeadm is configured by: repositories in there are not whole, and kubeadm itself is asked for its images.
const KUBEADM_API: &str = "kubeadm.k8s.io/";

/// Adds what `text`, the file `file`, names.
///
/// `line` tells on which line of the file a name stands, given the byte of `text` where it was met, and the name.
pub fn find(text: &str, file: &str, line: &dyn Fn(usize, &str) -> Option<usize>, found: &mut References) {
    let (documents, mistakes) = tree::parse_within(text, BOUNDS);
    if let Some(mistake) = mistakes.first() {
        // Scripts of images fill such files in with sed, so it is no error; but what is in it is not known.
        let place = place(file, line(mistake.span.start, ""));
        let reason = format!("{}; only its lines `image: NAME` were looked at", mistake.message);
        found.doubt(place, reason);
        return lines(text, file, line, found);
    }
    let mut search = Search {
        file,
        line,
        found,
        left: MAX_TEXTS_LEN,
    };
    for document in &documents {
        search.document(document, None, 0);
    }
}

/// Container images by lines alone, as sealer finds them: a field whose name ends in `image`. What a template fills in is
/// passed over.
pub(super) fn lines(
    text: &str,
    file: &str,
    line: &dyn Fn(usize, &str) -> Option<usize>,
    found: &mut References,
) {
    let mut start = 0;
    for one in text.split_inclusive('\n') {
        let is_comment = one.trim_start().starts_with('#');
        if let Some((key, value)) = one.split_once(':').filter(|_| !is_comment) {
            let key = key
                .trim_start()
                .trim_start_matches("- ")
                .trim_matches([' ', '"', '\'']);
            let value = value.split(" #").next().unwrap_or_default();
            let value = value.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ','));
            if names_image(key, value) && !value.contains("{{") {
                found.add(value, place(file, line(start, value)));
            }
        }
        start += one.len();
    }
}

struct Search<'a> {
    file: &'a str,
    line: &'a dyn Fn(usize, &str) -> Option<usize>,
    found: &'a mut References,
    /// Bytes of texts that may still be read.
    left: usize,
}

/// Where something stands.
#[derive(Clone, Copy)]
struct Where<'a> {
    /// The field that it is the value of, or an item of.
    field: &'a str,
    /// The text of the file that holds it, when it stands in a text.
    text_at: Option<usize>,
    /// How many texts it stands in.
    texts: usize,
}

impl Search<'_> {
    fn document(&mut self, document: &Node, text_at: Option<usize>, texts: usize) {
        let place = Where {
            field: "",
            text_at,
            texts,
        };
        self.node(document, place);
    }

    fn node(&mut self, node: &Node, place: Where<'_>) {
        match &node.value {
            // A schema has fields of this name that name nothing.
            Value::Map(_) if node.get("kind").and_then(Node::text) == Some("CustomResourceDefinition") => {}
            Value::Map(_)
                if node
                    .get("apiVersion")
                    .and_then(Node::text)
                    .is_some_and(|version| version.starts_with(KUBEADM_API)) => {}
            Value::Map(entries) => {
                self.environment(entries, place.text_at);
                self.halves(entries, place.text_at);
                let is_container =
                    place.field.ends_with(CONTAINERS) || entries.iter().any(|one| one.key == "name");
                for entry in entries {
                    self.entry(entry, is_container, place);
                }
            }
            Value::List(items) => {
                let mut flag = "";
                for item in items {
                    match item.text() {
                        Some(text) => {
                            let start = place.text_at.unwrap_or(item.span.start);
                            self.argument(text, flag, start);
                            if place.field.to_ascii_lowercase().ends_with("images") && is_exact(text) {
                                self.add(text, start);
                            }
                            flag = text;
                        }
                        None => self.node(item, place),
                    }
                }
            }
            Value::Null | Value::Scalar { .. } => {}
        }
    }

    fn entry(&mut self, entry: &Entry, is_container: bool, place: Where<'_>) {
        let value = &entry.value;
        let start = place.text_at.unwrap_or(value.span.start);
        let below = Where {
            field: &entry.key,
            ..place
        };
        let key = entry.key.to_ascii_lowercase();
        let Some(text) = value.text() else {
            if key.ends_with("image") {
                self.pair(value, place.field == "volumes", start);
            }
            if key.ends_with("images") {
                for one in value.entries() {
                    if let Some(text) = one.value.text().filter(|text| is_exact(text)) {
                        self.add(text, place.text_at.unwrap_or(one.value.span.start));
                    }
                }
            }
            return self.node(value, below);
        };
        if entry.key == "image" && is_container && place.texts == 0 && text.is_empty() {
            let place = self.place(start, "");
            return self.found.doubt(place, "a container without an image");
        }
        if names_image(&entry.key, text) {
            // Pictures, volumes and topics have fields of this name, too: a bare word counts in a container.
            let is_bare = !is_exact(text) && !text.contains('/');
            if !is_bare || (is_container && place.texts == 0) {
                self.add(text, start);
            }
            return;
        }
        // A file in a ConfigMap, values of a chart in a resource: documents of their own.
        let is_document = text.contains('\n') || text.starts_with('{');
        if place.texts == MAX_TEXTS || !is_document || !text.contains("mage") {
            return;
        }
        let Some(left) = self.left.checked_sub(text.len()) else {
            let place = self.place(start, "");
            return self
                .found
                .doubt(place, "so much text is in it that the rest was not looked at");
        };
        self.left = left;
        let (documents, mistakes) = tree::parse_within(text, BOUNDS);
        if mistakes.is_empty() {
            for document in documents.iter().filter(|document| document.text().is_none()) {
                self.document(document, Some(start), place.texts + 1);
            }
        } else {
            // Somebody else's template: what it names in full counts.
            let mut inside = References::default();
            lines(text, self.file, &|_, name| (self.line)(start, name), &mut inside);
            for (image, places) in inside.iter() {
                if image.name().contains('/') {
                    places
                        .iter()
                        .for_each(|place| self.found.add_image(image.clone(), place.clone()));
                }
            }
        }
    }

    /// `image: {repository: R, tag: T}` or `{name: R, tag: T}`, with `registry` and `digest` where given, as charts have it;
    /// `{reference: NAME}`, as volumes do, where it may be a bare word.
    fn pair(&mut self, value: &Node, is_volume: bool, start: usize) {
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Node::text)
                .filter(|text| !text.is_empty())
        };
        if let Some(reference) = text("reference").filter(|text| is_volume || is_exact(text)) {
            return self.add(reference, start);
        }
        let repository = text("repository").or_else(|| text("name"));
        let (Some(repository), tag, digest) = (repository, text("tag"), text("digest")) else {
            return;
        };
        let mut name = text("registry").map_or(String::new(), |registry| format!("{registry}/"));
        name.push_str(repository);
        if let Some(tag) = tag {
            name.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = digest {
            name.push_str(&format!("@{digest}"));
        }
        if tag.is_some() || digest.is_some() {
            self.add(&name, start);
        }
    }

    /// `imageRepository: R` and `imageTag: T` side by side, also with the same beginning before both.
    fn halves(&mut self, entries: &[Entry], at: Option<usize>) {
        for entry in entries {
            let key = entry.key.to_ascii_lowercase();
            let (Some(what), Some(repository)) = (key.strip_suffix("imagerepository"), entry.value.text())
            else {
                continue;
            };
            let key = format!("{what}imagetag");
            let tag = entries.iter().find(|one| one.key.eq_ignore_ascii_case(&key));
            let tag = tag.and_then(|tag| tag.value.text()).filter(|tag| !tag.is_empty());
            // A registry alone is where all of somebody's images are.
            let is_registry = !repository.contains('/') && repository.contains(['.', ':']);
            if let Some(tag) = tag.filter(|_| !repository.is_empty() && !is_registry) {
                self.add(
                    &format!("{repository}:{tag}"),
                    at.unwrap_or(entry.value.span.start),
                );
            }
        }
    }

    /// `{name: RELATED_IMAGE_X, value: NAME}`: what operators start later.
    fn environment(&mut self, entries: &[Entry], at: Option<usize>) {
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key);
        let (Some(name), Some(value)) = (entry("name"), entry("value")) else {
            return;
        };
        let (Some(variable), Some(text)) = (name.value.text(), value.value.text()) else {
            return;
        };
        if variable.to_ascii_uppercase().contains("IMAGE") && is_exact(text) {
            self.add(text, at.unwrap_or(value.value.span.start));
        }
    }

    /// `--config-reloader-image=NAME`, or NAME behind such a flag: what operators start later.
    fn argument(&mut self, text: &str, flag_before: &str, start: usize) {
        let (flag, value) = text
            .strip_prefix('-')
            .and_then(|flag| flag.split_once('='))
            .unwrap_or((flag_before, text));
        let value = value.trim_matches(['"', '\'']);
        let is_flag =
            flag.to_ascii_lowercase().ends_with("image") && (flag != flag_before || flag.starts_with('-'));
        if is_exact(value) && (is_flag || (flag != flag_before && is_exact_with_path(value))) {
            self.add(value, start);
        }
    }

    fn add(&mut self, text: &str, start: usize) {
        let place = self.place(start, text);
        self.found.add(text, place);
    }

    fn place(&self, start: usize, text: &str) -> Place {
        place(self.file, (self.line)(start, text))
    }
}

fn place(file: &str, line: Option<usize>) -> Place {
    Place {
        file: file.to_owned(),
        line,
    }
}

/// Whether the field `key` with this value names an image. Other fields than `image` mean many things: their value has to look
/// like one.
fn names_image(key: &str, value: &str) -> bool {
    if value.is_empty() || matches!(value, "true" | "false") {
        return false;
    }
    let key_of_image = |key: &str| IMAGE_FIELDS.iter().any(|field| key.ends_with(field));
    key == "image" || (key_of_image(&key.to_ascii_lowercase()) && value.contains('/') && is_exact(value))
}

/// Whether `text` is a name with a tag or a digest.
fn is_exact(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or_default();
    (last.contains(':') || last.contains('@')) && text.parse::<gantry_model::ImageReference>().is_ok()
}

/// Whether `text` is a name in a registry that it names: an argument that says so is hardly anything else.
fn is_exact_with_path(text: &str) -> bool {
    let reference = text.parse::<gantry_model::ImageReference>();
    is_exact(text) && reference.is_ok_and(|image| image.domain().is_some_and(|domain| !domain.contains(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        let mut found = References::default();
        let line = |at: usize, _: &str| Some(text[..at].matches('\n').count() + 1);
        find(text, "manifests/a.yaml", &line, &mut found);
        found
            .iter()
            .map(|(image, places)| format!("{image} {}", places[0]))
            .chain(
                found
                    .doubts()
                    .iter()
                    .map(|doubt| format!("? {} {}", doubt.place, doubt.reason)),
            )
            .collect()
    }

    #[test]
    fn images_of_every_kind_of_pod_are_found_with_their_lines() {
        let text = "\
kind: Deployment
spec:
  template:
    spec:
      initContainers: [{name: init, image: busybox:1.36}]
      containers:
      - name: web
        image: \"nginx:1.25\" # the server
        args: [--reload-image=quay.io/x/reloader:v1, --listen=0.0.0.0:80, --proxy=127.0.0.1:99]
        env:
        - {name: RELATED_IMAGE_AGENT, value: 'quay.io/x/agent@sha256:0000000000000000000000000000000000000000000000000000000000000000'}
        - {name: IMAGE_PULL_POLICY, value: Always}
---
kind: Prometheus
spec: {baseImage: quay.io/p/prometheus:v2, image: {registry: quay.io, repository: p/alert, tag: v3}}
";
        assert_eq!(
            named(text),
            [
                "busybox:1.36 manifests/a.yaml:5",
                "nginx:1.25 manifests/a.yaml:8",
                "quay.io/p/alert:v3 manifests/a.yaml:15",
                "quay.io/p/prometheus:v2 manifests/a.yaml:15",
                "quay.io/x/agent@sha256:0000000000000000000000000000000000000000000000000000000000000000 manifests/a.yaml:11",
                "quay.io/x/reloader:v1 manifests/a.yaml:9",
            ]
        );
    }

    #[test]
    fn a_pod_within_a_config_map_counts_and_a_schema_does_not() {
        let text = "\
kind: ConfigMap
data:
  pod.yaml: |
    kind: Pod
    spec:
      containers: [{image: helper:v1}]
  note: |
    the image: of a cat
    and a second line
---
kind: CustomResourceDefinition
spec: {versions: [{schema: {image: {default: x}, properties: {image: nothing:v1}}}]}
";
        assert_eq!(named(text), ["helper:v1 manifests/a.yaml:4"]);
    }

    #[test]
    fn images_in_other_fields_count_and_pictures_do_not() {
        let text = "\
kind: List
items:
- kind: CustomResourceDefinition
  spec: {schema: {image: nothing:v2}}
- kind: ConfigMap
  data:
    dashboard.json: '{\"image\": \"logo.png\", \"backgroundImage\": \"a:b\", \"pod\": {\"image\": \"x.example/in-json:v1\"}}'
    injector: |
      {{ if .Values }}
      image: docker.io/istio/fixed:1.2
      image: {{ .Image }}
      {{ end }}
- kind: PersistentVolume
  spec: {rbd: {image: foo}}
- kind: Operator
  spec:
    images: {op: quay.io/op/op:v1}
    proxyImage: {repository: quay.io/op/proxy, tag: v2}
    sourceImage: golden:5
    containers:
    - image: bare
      command: [run, --image, quay.io/op/run:v3]
";
        let found = named(text);
        let names: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(
            names,
            [
                "bare:latest",
                "docker.io/istio/fixed:1.2",
                "quay.io/op/op:v1",
                "quay.io/op/proxy:v2",
                "quay.io/op/run:v3",
                "x.example/in-json:v1",
            ],
            "{found:?}"
        );
    }

    #[test]
    fn images_of_volumes_and_names_in_two_fields_count() {
        let text = "\
kind: Pod
spec:
  volumes:
  - {name: model, image: {reference: 'quay.io/x/model:v1', pullPolicy: IfNotPresent}}
  - {name: bare, image: {reference: weights}}
---
kind: Cluster
spec:
  imageName: ghcr.io/pg/postgresql:16.2
  backupImageRef: ghcr.io/pg/backup:v2
  image: {name: x.example/db, tag: 1.25}
  proxy: {image: {registry: quay.io, name: team/proxy, digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}
  agent: {imageRepository: quay.io/x/agent, imageTag: v3}
  relayImageRepository: relay
  relayImageTag: '1.0'
";
        assert_eq!(
            named(text),
            [
                "ghcr.io/pg/backup:v2 manifests/a.yaml:10",
                "ghcr.io/pg/postgresql:16.2 manifests/a.yaml:9",
                "quay.io/team/proxy@sha256:0000000000000000000000000000000000000000000000000000000000000000 manifests/a.yaml:12",
                "quay.io/x/agent:v3 manifests/a.yaml:13",
                "quay.io/x/model:v1 manifests/a.yaml:4",
                "relay:1.0 manifests/a.yaml:14",
                "weights:latest manifests/a.yaml:5",
                "x.example/db:1.25 manifests/a.yaml:11",
            ]
        );
    }

    #[test]
    fn what_only_looks_like_half_a_name_is_none() {
        let text = "\
kind: VirtualMachine
spec:
  imageName: golden:5
  imageRef: 6b0c0a1e-3b0e-4a57
  diskImageName: pool/golden
  image: {name: ubuntu-22.04, version: '3'}
  template: {image: {reference: main}}
  imageRepository: registry.example.com
  imageTag: v1
  other: {imageRepository: x.example/only}
  another: {imageTag: v9}
  empty: {imageRepository: '', imageTag: v1}
---
kind: ConfigMap
data:
  ClusterConfiguration: |
    apiVersion: kubeadm.k8s.io/v1beta3
    kind: ClusterConfiguration
    imageRepository: registry.k8s.io
    dns: {imageRepository: registry.k8s.io/coredns, imageTag: v1.11.1}
";
        assert_eq!(named(text), [""; 0]);
    }

    #[test]
    fn what_is_not_yaml_is_read_by_its_lines() {
        let text = "kind: Pod\nimage: 'nginx:1.25', # x\n{{ if }}\n\tvmagent-image: \"vm/agent:v1\"\nimage: __IMAGE__\n";
        let found = named(text);
        assert_eq!(found[0], "nginx:1.25 manifests/a.yaml:2");
        assert_eq!(found[1], "vm/agent:v1 manifests/a.yaml:4");
        assert!(found[2].starts_with("? manifests/a.yaml:"), "{found:?}");
        assert!(found[3].contains("__IMAGE__"), "{found:?}");
    }
}
