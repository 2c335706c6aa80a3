//! This module owns [`render`]: a chart's templates, with everything helm gives them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use gantry_template::check_nesting;
use gotmpl::{Template, TemplateError, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::chart::Chart;
use super::functions;
use super::in_place::{self, Lost, with_assignments};
use super::methods::with_calls;
use super::values::dependencies;

/// Bytes that a chart may make in all.
const MAX_RENDERED_LEN: usize = 32 << 20;
/// Steps of loops in one template.
const MAX_STEPS: u64 = 1_000_000;
/// How deep templates include each other.
const MAX_INCLUDES: usize = 32;
/// How often templates include others, for all templates of a chart.
const MAX_INCLUDES_IN_ALL: usize = 100_000;
/// The version that a chart is told the cluster has, unless somebody says another.
const KUBERNETES_VERSION: &str = "v1.20.0";
/// What a value that is not there is; helm leaves it out.
const NO_VALUE: &str = "<no value>";

/// One template of a chart, rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// The template, by its path in the chart.
    pub template: String,
    /// What it makes, or why it makes nothing.
    pub text: Result<String, String>,
    /// Whether it changes a mapping of which others have the old state: helm may make something else of it.
    pub lost_changes: bool,
}

/// What the templates of `chart` and of the charts in it make of its own values, for a cluster of this version.
#[must_use]
pub fn render(chart: &Chart, kubernetes: Option<&str>) -> Vec<Rendered> {
    let mut all = Vec::new();
    let mut plan = Vec::new();
    let values = if chart.values.is_object() {
        chart.values.clone()
    } else {
        Json::Object(Map::new())
    };
    collect(
        chart,
        &chart.name,
        String::new(),
        chart.name.clone(),
        values,
        &mut plan,
    );
    // Every template is known to every other one, in charts below and above.
    let set = Set::new(&plan, &mut all);
    let version = kubernetes.unwrap_or(KUBERNETES_VERSION);
    let mut left = MAX_RENDERED_LEN;
    for one in &plan {
        for path in one.chart.templates.keys() {
            let name = path.rsplit('/').next().unwrap_or(path);
            if name.starts_with('_') || name == "NOTES.txt" {
                continue;
            }
            let template = format!("{}{path}", one.below);
            let text = set.render(&one.helm_name(path), &one.context(version, path), left);
            left = left.saturating_sub(text.as_ref().map_or(0, String::len));
            let lost_changes = set.lost.take();
            all.push(Rendered {
                template,
                text,
                lost_changes,
            });
        }
    }
    all
}

/// A chart that is rendered.
struct Planned<'c> {
    chart: &'c Chart,
    /// What it is called where it is used.
    name: String,
    /// Where it lies below the top chart, with a `/` at the end.
    below: String,
    /// What helm calls the place of its templates, without the last folder.
    path: String,
    values: Json,
}

fn collect<'c>(
    chart: &'c Chart,
    name: &str,
    below: String,
    path: String,
    values: Json,
    plan: &mut Vec<Planned<'c>>,
) {
    let further = dependencies(chart, &values);
    plan.push(Planned {
        chart,
        name: name.to_owned(),
        below: below.clone(),
        path: path.clone(),
        values,
    });
    for (name, chart, values) in further {
        let path = format!("{path}/charts/{name}");
        collect(chart, &name, format!("{below}charts/{name}/"), path, values, plan);
    }
}

impl Planned<'_> {
    /// What helm calls a template, and other templates with it.
    fn helm_name(&self, template: &str) -> String {
        format!("{}/{template}", self.path)
    }

    /// What a template gets (helm's "Built-in Objects").
    fn context(&self, kubernetes: &str, template: &str) -> Value {
        let mut metadata = Map::new();
        for (field, value) in &self.chart.metadata {
            let mut letters = field.chars();
            let first = letters.next().map(|first| first.to_uppercase().to_string());
            metadata.insert(
                format!("{}{}", first.unwrap_or_default(), letters.as_str()),
                value.clone(),
            );
        }
        metadata.insert("Name".to_owned(), json!(self.name));
        let mut version = kubernetes.trim_start_matches('v').split('.');
        let (major, minor) = (version.next().unwrap_or("1"), version.next().unwrap_or("20"));
        let context = functions::from_json(&json!({
            "Values": self.values,
            "Chart": metadata,
            "Release": {
                "Name": "release", "Namespace": "default", "Service": "Helm", "Revision": 1,
                "IsInstall": true, "IsUpgrade": false,
            },
            "Capabilities": {
                "KubeVersion": { "Version": kubernetes, "GitVersion": kubernetes, "Major": major, "Minor": minor },
                "HelmVersion": { "Version": "v3.12.0" },
            },
            "Template": { "Name": self.helm_name(template), "BasePath": self.helm_name("templates") },
        }));
        let files = self.chart.files.clone();
        let get = functions::function(move |arguments| {
            let path = arguments.first().map(ToString::to_string).unwrap_or_default();
            Ok(functions::string(files.get(&path).cloned().unwrap_or_default()))
        });
        let nothing = || functions::function(|_| Ok(functions::map([])));
        let lines = functions::function(|_| Ok(Value::List(Arc::new([]))));
        let with_methods = [
            (
                "Files",
                functions::map([
                    ("Get", get.clone()),
                    ("GetBytes", get),
                    ("Glob", nothing()),
                    ("Lines", lines),
                    ("AsConfig", nothing()),
                    ("AsSecrets", nothing()),
                ]),
            ),
            (
                // Whatever a cluster may have, it is taken to have: more is rendered then, not less.
                "APIVersions",
                functions::map([("Has", functions::function(|_| Ok(Value::Bool(true))))]),
            ),
        ];
        let Value::Map(fields) = context else {
            return context;
        };
        let mut fields = Arc::unwrap_or_clone(fields);
        for (name, value) in with_methods {
            if name == "APIVersions" {
                if let Some(Value::Map(capabilities)) = fields.get("Capabilities") {
                    let mut capabilities = BTreeMap::clone(capabilities);
                    capabilities.insert(name.into(), value);
                    fields.insert("Capabilities".into(), Value::Map(Arc::new(capabilities)));
                }
            } else {
                fields.insert(name.into(), value);
            }
        }
        Value::Map(Arc::new(fields))
    }
}

/// Everything that templates define, for all of them.
struct Set {
    templates: Arc<OnceLock<Template>>,
    lost: Lost,
}

impl Set {
    fn new(plan: &[Planned<'_>], failed: &mut Vec<Rendered>) -> Self {
        let (set, lost) = (Arc::new(OnceLock::new()), Lost::default());
        let mut template = with_all_functions(&set, &lost);
        for one in plan.iter().rev() {
            for (path, text) in &one.chart.templates {
                match parsed(Template::new(&one.helm_name(path)), &understood(text)) {
                    Ok(own) => {
                        for name in own.templates() {
                            if let Some(tree) = own.lookup(name) {
                                template = template.add_parse_tree(name, tree.clone());
                            }
                        }
                    }
                    Err(error) => failed.push(Rendered {
                        template: format!("{}{path}", one.below),
                        text: Err(error.to_string()),
                        lost_changes: false,
                    }),
                }
            }
        }
        let _ = set.set(template);
        Self { templates: set, lost }
    }

    /// What the template of this name makes; nothing, if it makes nothing or could not be read.
    fn render(&self, name: &str, context: &Value, limit: usize) -> Result<String, String> {
        let Some(set) = self.templates.get().filter(|set| set.lookup(name).is_some()) else {
            return Ok(String::new());
        };
        let mut out = Bounded::new(limit);
        set.execute_template_fmt(&mut out, name, context)
            .map_err(|error| error.to_string())?;
        Ok(out.text.replace(NO_VALUE, ""))
    }
}

/// A template's text in words that templates here have.
fn understood(text: &str) -> String {
    with_assignments(&with_calls(text))
}

fn with_all_functions(set: &Arc<OnceLock<Template>>, lost: &Lost) -> Template {
    let template = functions::with_functions(Template::new("").max_range_iters(MAX_STEPS));
    let template = in_place::with_functions(template, lost);
    let (of_include, of_tpl) = (Arc::downgrade(set), Arc::downgrade(set));
    let depth = Arc::new(Includes::default());
    let depth_of_tpl = depth.clone();
    template
        .func("include", move |arguments| {
            let [name, dot] = arguments else {
                return Err(TemplateError::Exec("include takes a name and a value".into()));
            };
            let _inside = Inside::one_deeper(&depth)?;
            let set = upgraded(&of_include)?;
            let set = set.get().ok_or_else(unset)?;
            let mut text = Bounded::new(MAX_RENDERED_LEN);
            set.execute_template_fmt(&mut text, &name.to_string(), dot)?;
            Ok(functions::string(text.text.replace(NO_VALUE, "")))
        })
        .func("tpl", move |arguments| {
            let [text, dot] = arguments else {
                return Err(TemplateError::Exec("tpl takes a text and a value".into()));
            };
            let _inside = Inside::one_deeper(&depth_of_tpl)?;
            let set = upgraded(&of_tpl)?;
            rendered(&set, &understood(&text.to_string()), dot).map(functions::string)
        })
}

/// Templates within templates: how deep it is now, and how many there were.
#[derive(Default)]
struct Includes {
    depth: AtomicUsize,
    count: AtomicUsize,
}

/// One template within another; ends when dropped.
struct Inside(Arc<Includes>);

impl Inside {
    fn one_deeper(includes: &Arc<Includes>) -> Result<Self, TemplateError> {
        let inside = Self(includes.clone());
        if includes.depth.fetch_add(1, Ordering::Relaxed) >= MAX_INCLUDES {
            let message = format!("templates include each other more than {MAX_INCLUDES} deep");
            return Err(TemplateError::Exec(message));
        }
        if includes.count.fetch_add(1, Ordering::Relaxed) >= MAX_INCLUDES_IN_ALL {
            let message = format!("templates include each other more than {MAX_INCLUDES_IN_ALL} times");
            return Err(TemplateError::Exec(message));
        }
        Ok(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

fn upgraded(set: &Weak<OnceLock<Template>>) -> Result<Arc<OnceLock<Template>>, TemplateError> {
    set.upgrade().ok_or_else(unset)
}

fn unset() -> TemplateError {
    TemplateError::Exec("the templates are not all read".into())
}

/// `template` with `text`, whose blocks are not nested deeper than the parser can stand.
fn parsed(template: Template, text: &str) -> Result<Template, TemplateError> {
    check_nesting(text).map_err(|error| TemplateError::Exec(error.to_string()))?;
    template.parse(text)
}

/// What a text makes that a value of the chart is.
fn rendered(set: &OnceLock<Template>, text: &str, context: &Value) -> Result<String, TemplateError> {
    let set = set.get().ok_or_else(unset)?;
    // With a line of its own: an empty text would keep what another one had there.
    let template = parsed(set.clone(), &format!("\n{text}"))?;
    let mut out = Bounded::new(MAX_RENDERED_LEN);
    template.execute_fmt(&mut out, context)?;
    Ok(out.text.replace(NO_VALUE, ""))
}

/// Text up to a bound.
struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    const fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
        }
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.text.len() + more.len() > self.limit {
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_found_by_the_name_that_helm_gives_it() {
        let web = "sum: {{ include (print $.Template.BasePath \"/config.yaml\") . | sha256sum }}";
        let texts = render(&chart(&[("config.yaml", "a: 1"), ("web.yaml", web)], ""), None);
        let text = texts.last().unwrap().text.clone().unwrap();
        assert_eq!(text.len(), "sum: ".len() + 64, "{text}");
    }

    #[test]
    fn templates_that_include_each_other_too_often_end() {
        let mut text = String::from("{{ define \"t0\" }}x{{ end }}");
        for level in 1..30 {
            let below = format!("{{{{ include \"t{}\" . }}}}", level - 1);
            text.push_str(&format!(
                "{{{{ define \"t{level}\" }}}}{below}{below}{{{{ end }}}}"
            ));
        }
        let error = rendered(&[("_a.tpl", &text), ("b.yaml", "{{ include \"t29\" . }}")], "").unwrap_err();
        assert!(error.contains("100000 times"), "{error}");
    }

    fn chart(templates: &[(&str, &str)], values: &str) -> Chart {
        let mut files = BTreeMap::from([
            ("Chart.yaml".to_owned(), b"name: a\nversion: 1.0.0\n".to_vec()),
            ("values.yaml".to_owned(), values.as_bytes().to_vec()),
        ]);
        for (name, text) in templates {
            files.insert(format!("templates/{name}"), text.as_bytes().to_vec());
        }
        Chart::of(files).unwrap()
    }

    fn rendered(templates: &[(&str, &str)], values: &str) -> Result<String, String> {
        render(&chart(templates, values), None).pop().unwrap().text
    }

    #[test]
    fn what_is_changed_in_place_is_changed() {
        let callee = "{{ define \"f\" }}{{ $_ := set .ctx \"k\" \"v\" }}{{ end }}";
        for (text, result) in [
            (
                "{{- $x := dict \"a\" 1 -}}{{- $_ := set $x \"k\" \"v\" -}}{{ $x.k }}",
                Ok("v"),
            ),
            (
                "{{- $x := dict -}}{{- range $k, $v := .Values.map }}{{- $_ := set $x $v $k -}}{{ end -}}{{ $x.d }}{{ len $x }}",
                Ok("c2"),
            ),
            (
                "{{- $x := dict \"a\" (dict \"b\" 1) -}}{{- $_ := set $x.a \"c\" 2 -}}{{ $x.a.c }}{{ $x.a.b }}",
                Ok("21"),
            ),
            (
                "{{- $x := dict \"a\" 1 -}}{{- $_ := merge $x (dict \"a\" 2 \"b\" 3) -}}{{ $x.a }}{{ $x.b }}",
                Ok("13"),
            ),
            (
                "{{- $x := dict \"a\" 1 -}}{{- $y := mergeOverwrite $x (dict \"a\" 2) -}}{{ $x.a }}{{ $y.a }}",
                Ok("22"),
            ),
            (
                "{{- $x := dict \"a\" 1 -}}{{- $_ := unset $x \"a\" -}}{{ len $x }}",
                Ok("0"),
            ),
            (
                "{{- $x := deepCopy .Values.map -}}{{- $_ := set $x \"b\" 9 -}}{{ $x.b }}{{ .Values.map.b }}",
                Ok("91"),
            ),
            ("{{ (set (dict) \"a\" 1).a }}", Ok("1")),
            ("{{ (set (deepCopy .Values.map) \"b\" 9).b }}", Ok("9")),
            // Whoever else has the mapping does not see the change here: that is told.
            ("{{- $_ := set .Values \"x\" \"y\" -}}{{ .Values.x }}", Err(())),
            (
                "{{- $x := .Values.map -}}{{- $_ := set $x \"b\" 9 -}}{{ .Values.map.b }}",
                Err(()),
            ),
            (
                "{{- $x := dict -}}{{- include \"f\" (dict \"ctx\" $x) -}}{{ $x.k }}",
                Err(()),
            ),
            (
                "{{- $x := dict -}}{{- $y := $x -}}{{- $_ := set $x \"a\" 1 -}}{{ $y.a }}",
                Err(()),
            ),
        ] {
            let templates = chart(&[("_a.tpl", callee), ("b.yaml", text)], "map: {b: 1, c: d}\n");
            let made = render(&templates, None).pop().unwrap();
            assert_eq!(made.lost_changes, result.is_err(), "{text}: {made:?}");
            if let Ok(result) = result {
                assert_eq!(made.text.as_deref(), Ok(result), "{text}");
            }
        }
    }

    #[test]
    fn templates_that_include_each_other_end() {
        let text = "{{ define \"a\" }}{{ include \"a\" . }}{{ end }}";
        let error = rendered(&[("_a.tpl", text), ("b.yaml", "{{ include \"a\" . }}")], "").unwrap_err();
        assert!(error.contains("32 deep"), "{error}");
        let error = rendered(
            &[("b.yaml", "{{ tpl .Values.t . }}")],
            "t: '{{ tpl .Values.t . }}'",
        )
        .unwrap_err();
        assert!(error.contains("32 deep"), "{error}");
    }

    #[test]
    fn what_charts_say_is_understood() {
        for (text, result) in [
            ("{{ .Values.a | default \"x\" | quote }}", "\"x\""),
            ("{{ toYaml .Values.map | nindent 2 }}", "\n  b: 1\n  c: d"),
            ("{{- with .Values.none }}x{{ else }}y{{ end }}", "y"),
            ("{{ .Values.not.there }}", ""),
            (
                "{{ if semverCompare \">=1.19-0\" .Capabilities.KubeVersion.GitVersion }}new{{ end }}",
                "new",
            ),
            ("{{ (.Files.Get \"none\") | b64enc }}", ""),
            ("{{ $x := dict \"k\" (list 1 2) }}{{ index $x.k 1 }}", "2"),
            (
                "{{ range $k, $v := .Values.map }}{{ $k }}={{ $v }};{{ end }}",
                "b=1;c=d;",
            ),
            ("{{ ternary \"a\" \"b\" (eq .Release.Name \"release\") }}", "a"),
            (
                "{{ printf \"%s-%d\" .Chart.Name (int 3) | trunc 4 | trimSuffix \"-\" }}",
                "a-3",
            ),
            ("{{ join \",\" (splitList \"/\" \"a/b\") | upper }}", "A,B"),
            ("{{ regexReplaceAll \"[^a]\" \"abc\" \"x\" }}", "axx"),
        ] {
            let made = rendered(&[("b.yaml", text)], "map: {b: 1, c: d}\n");
            assert_eq!(
                made.as_deref().map(|text| text.trim_start_matches('\n')),
                Ok(result.trim_start_matches('\n')),
                "{text}"
            );
        }
    }
}
