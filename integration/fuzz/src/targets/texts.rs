//! Texts that people write.

use std::collections::BTreeMap;

use gantry::build::kubefile;
use gantry::charts::{Chart, render as render_chart};
use gantry::clusterfile::compose::{Choices, compose};
use gantry::clusterfile::yaml::{Yaml, to_text};
use gantry::clusterfile::{Clusterfile, Mistakes};
use gantry::completeness::{References, find_in_yaml, parse_image_list, places_of};
use gantry_model::ImageReference;
use gantry_template::{check, render, render_document};

use super::{texts, with_text};
use crate::Target;

/// A Kubefile, and how its mistakes are shown.
pub(crate) const KUBEFILE: Target = Target {
    name: "kubefile",
    seeds: || {
        texts(&[
            "FROM kubernetes:v1.20.2\nCOPY etc etc\nRUN echo \"a b\" && \\\n  echo c\nCMD [\"a\", \"b\"]\n",
            "# escape=`\nARG V=1\nFROM --platform=linux/amd64 a:${V:-2} AS b\nENV A=1 B='2 3'\nLABEL x.y=\"z\"\n",
            "FROM scratch\nRUN <<EOF\necho one\nEOF\nAPP one local://a.yaml https://x.test/b.tgz\nLAUNCH [\"one\"]\n\
             APPCMDS one [\"kubectl apply -f .\"]\nAPPENV one A=1\nCNI calico local://c\nKUBEVERSION >=1.20\n",
            "\u{feff}from a\nmaintainer x\nADD https://x.test/y.tgz /z\nCMDS [\"a\"]\n",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let mut mistakes = Vec::new();
            kubefile::parse(text, &mut mistakes);
            let mistakes = Mistakes::new("Kubefile", text, mistakes);
            let _shown = mistakes.render(true);
        });
    },
};

/// A Clusterfile, and how its mistakes are shown.
pub(crate) const CLUSTERFILE: Target = Target {
    name: "clusterfile",
    seeds: || {
        texts(&[
            "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: kubernetes:v1.20.2\n  \
             env: [ A=1 ]\n  hosts:\n    - { ips: [ 10.0.0.2-10.0.0.4 ], roles: [ master ] }\n    \
             - ips: [ 10.0.0.9 ]\n      roles: [ node ]\n      labels: { a: b }\n      taints: [ 'c=d:NoSchedule' ]\n\
             ---\nkind: Config\nspec: { path: etc/a.yml, strategy: merge, data: 'b: c' }\n",
            "apiVersion: zlink.aliyun.com/v1alpha1\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: a:b\n  \
             provider: BAREMETAL\n  masters: { ipList: [ 10.0.0.2 ] }\n  nodes: { ipList: [ 10.0.0.3 ] }\n  \
             certSANS: [ a.test ]\n  network: { podCIDR: 10.1.0.0/16 }\n",
            "kind: Plugin\nmetadata: { name: a }\nspec:\n  type: SHELL\n  action: PreInit|PostInstall\n  on: role=master\n  \
             data: |\n    echo hello\n---\nkind: KubeletConfiguration\nmaxPods: 20\n",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            if let Err(mistakes) = Clusterfile::parse("Clusterfile", text) {
                let _shown = mistakes.render(true);
            }
        });
    },
};

/// A Clusterfile, and what a command line makes of it: YAML again, which says the hosts of the command line.
pub(crate) const COMPOSED: Target = Target {
    name: "composed-clusterfile",
    seeds: || (CLUSTERFILE.seeds)(),
    run: |data| {
        with_text(data, |text| {
            let choices = Choices {
                image: "a:b".parse().ok(),
                name: "demo".parse().ok(),
                masters: vec![[10, 0, 0, 7].into()],
                nodes: vec![[10, 0, 0, 8].into()],
                env: vec!["A=1".to_owned()],
                command_arguments: vec!["B=2".to_owned()],
                commands: vec!["true".to_owned()],
                applications: Some(vec!["one".to_owned()]),
                application_env: vec![("one".to_owned(), "C=3".to_owned())],
            };
            match compose("Clusterfile", text, &choices) {
                Err(mistakes) => drop(mistakes.render(true)),
                Ok(composed) => {
                    assert!(
                        composed.contains("10.0.0.7") && composed.contains("10.0.0.8"),
                        "{composed}"
                    );
                    let again = Yaml::documents(&composed).expect("what was composed is YAML");
                    assert!(!again.is_empty(), "{composed}");
                    let _ = Clusterfile::parse("Clusterfile", &composed);
                }
            }
            let _ = compose("Clusterfile", text, &Choices::default());
        });
    },
};

/// A template, rendered with a few values.
pub(crate) const TEMPLATE: Target = Target {
    name: "template",
    seeds: || {
        texts(&[
            "host: {{ .HostIP }}\n{{ if eq .Mode \"a\" }}x{{ else }}y{{ end }}\n",
            "{{ range $i, $v := split \",\" .List }}{{ $i }}={{ $v | printf \"%q\" }}\n{{ end }}{{- with .Missing }}z{{ end -}}",
            "{{/* a comment */}}{{ define \"a\" }}b{{ end }}{{ template \"a\" . }}",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let values = [("HostIP", "10.0.0.2"), ("Mode", "a"), ("List", "a,b")];
            let values: BTreeMap<_, _> = values
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
            let checked = check(text);
            let rendered = render(text, &values);
            assert!(
                checked.is_ok() || rendered.is_err(),
                "what is refused before is not rendered: {text:?}"
            );
            let document = serde_json::json!({ "Mode": { "a": [1, 2] } });
            let _ = render_document(text, &document);
        });
    },
};

/// YAML as Configs merge it: what is written is read as the same.
pub(crate) const YAML: Target = Target {
    name: "yaml",
    seeds: || {
        texts(&[
            "a: 1\nb: [ x, 'y', \"z\\n\" ]\nc: { d: ~, e: true }\n---\n- |\n  two\n  lines\n- >-\n  folded\n",
            "a: &x { b: c }\nd: 0o17\ne: 1e3\n? complex\n: value\n",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let Ok(documents) = Yaml::documents(text) else {
                return;
            };
            let written = to_text(&documents);
            let again = Yaml::documents(&written).expect("what was written is YAML");
            let meant = |documents: &[Yaml]| documents.iter().map(Yaml::to_json).collect::<Vec<_>>();
            assert_eq!(meant(&again), meant(&documents), "{written}");
        });
    },
};

/// The name of an image.
pub(crate) const REFERENCE: Target = Target {
    name: "reference",
    seeds: || {
        texts(&[
            "kubernetes:v1.20.2",
            "sea.hub:5000/library/a_b:latest",
            "[::1]:5000/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let Ok(name) = text.parse::<ImageReference>() else {
                return;
            };
            assert_eq!(name.to_string().parse::<ImageReference>().ok(), Some(name));
        });
    },
};

/// A chart: its values, a line of dashes, its template.
pub(crate) const CHART: Target = Target {
    name: "chart",
    seeds: || {
        texts(&[
            "image: {repository: a, tag: b}\n-----\n{{ define \"x\" }}{{ .Values.image.tag | quote }}{{ end }}\
             {{ include \"x\" . | nindent 2 }}{{ tpl \"{{ .Chart.Name }}\" . }}",
            "a: [1, 2]\n-----\n{{ range until 3 }}{{ add . 1 }}{{ end }}{{ toYaml .Values | indent 2 }}\
             {{ dict \"a\" (list 1 \"b\") | toJson | fromJson | toYaml }}",
            "-----\n{{ if .Capabilities.APIVersions.Has \"v1\" }}{{ semverCompare \"^1.2 || >= 3\" \"v1.20.2\" }}\
             {{ regexReplaceAll \"a(b)\" \"abab\" \"${1}\" | trunc -3 | repeat 2 }}{{ end }}",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let (values, template) = text.split_once("-----\n").unwrap_or(("", text));
            let files = [
                ("Chart.yaml", "name: a\nversion: 1.0.0\n"),
                ("values.yaml", values),
                ("templates/a.yaml", template),
            ];
            let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
            if let Ok(chart) = Chart::of(files.into()) {
                let _ = render_chart(&chart, None);
            }
        });
        let _ = Chart::unpack(data);
    },
};

/// Container images in manifests and in lists.
pub(crate) const IMAGE_NAMES: Target = Target {
    name: "image-names",
    seeds: || {
        texts(&[
            "kind: Pod\nspec:\n  containers:\n  - image: a/b:c\n    args: [--x-image=a.test/b:c]\n    \
             env: [{name: IMAGE, value: 'a:b'}]\n---\ndata:\n  x: |\n    image: a\n    b: c\n",
            "# list\nnginx:1.25 # x\n'a.test:5000/b',\n",
            "image: {repository: a, tag: b, registry: c.test}\n\tx\n- image: \"d\"\n",
        ])
    },
    run: |data| {
        with_text(data, |text| {
            let mut found = References::default();
            find_in_yaml(text, "a.yaml", &|_, _| None, &mut found);
            for (image, places) in found.iter() {
                assert!(!places.is_empty());
                assert!(!places_of(image).shared.is_empty());
            }
            if let Err(mistakes) = parse_image_list(text) {
                let _shown = Mistakes::new("imageList", text, mistakes).render(true);
            }
        });
    },
};
