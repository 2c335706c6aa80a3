//! This module owns [`Extension`]: what a ClusterImage says about itself beyond OCI, in two annotations of its manifest:
//! its applications, how they are launched, and the container images it brings (sealer 0.9 and later).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::{LABEL_COMMANDS, Manifest, null_as_default};
use crate::{ImageConfig, Platform};

/// Annotation of a manifest: an [`Extension`].
pub const ANNOTATION_EXTENSION: &str = "sealer.image.extension";
/// Annotation of a manifest: a list of [`ContainerImage`].
pub const ANNOTATION_CONTAINER_IMAGES: &str = "sealer.image.container.images";
/// Folder of the rootfs that has one folder for each application.
pub const APPLICATIONS: &str = "application/apps";
/// The only schema of extensions there is.
const SCHEMA_VERSION: &str = "v1alpha1";
/// The only version of applications there is.
const APPLICATION_VERSION: &str = "v1";

/// What a ClusterImage says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extension {
    /// What built it; empty for what Gantry built.
    #[serde(default, deserialize_with = "null_as_default")]
    pub build_client: BuildClient,
    /// `v1alpha1`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub schema_version: String,
    /// `kube-installer` or `app-installer`.
    #[serde(
        rename = "type",
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub kind: String,
    /// The applications that can be launched, in order.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub applications: Vec<Application>,
    /// Labels.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// Environment, below the cluster's.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub env: BTreeMap<String, String>,
    /// What is run when the cluster is complete.
    #[serde(default, deserialize_with = "null_as_default")]
    pub launch: Launch,
    /// What others say that is not known here: kept for images that build on this one.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// Versions of the programs that built an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildClient {
    /// sealer's.
    #[serde(default, deserialize_with = "null_as_default")]
    pub sealer_version: String,
    /// buildah's.
    #[serde(default, deserialize_with = "null_as_default")]
    pub buildah_version: String,
}

/// One application of an image; its files lie in `application/apps/NAME/`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Its name, unique in the image.
    pub name: String,
    /// `helm`, `kube` or `shell`; empty when it is none of them.
    #[serde(
        rename = "type",
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub kind: String,
    /// What is applied or run, below its folder.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub files: Vec<String>,
    /// `v1`.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub version: String,
    /// Environment of its commands, over the image's.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub env: BTreeMap<String, String>,
    /// Parts of the one command line that launches it, in its folder; without any, its type decides.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub cmds: Vec<String>,
    /// What others say that is not known here.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What is run when the cluster is complete: lines, or else applications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Shell lines.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub cmds: Vec<String>,
    /// Names of applications.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub app_names: Vec<String>,
}

/// A container image that a ClusterImage brings in its `registry/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Its name.
    pub image: String,
    /// The application it belongs to, if it belongs to one.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub app_name: String,
    /// Its platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// One thing that is run when the cluster is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchItem {
    /// The application of this name.
    Application(String),
    /// A shell line.
    Line(String),
}

impl Default for Extension {
    fn default() -> Self {
        Self {
            build_client: BuildClient::default(),
            schema_version: SCHEMA_VERSION.to_owned(),
            kind: "kube-installer".to_owned(),
            applications: Vec::new(),
            labels: BTreeMap::new(),
            env: BTreeMap::new(),
            launch: Launch::default(),
            other: BTreeMap::new(),
        }
    }
}

impl Extension {
    /// What the manifest says; none when it does not have the annotation.
    ///
    /// # Errors
    /// When it has one that is none.
    pub fn of(manifest: &Manifest) -> Result<Option<Self>, String> {
        let Some(text) = manifest.annotations.get(ANNOTATION_EXTENSION) else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|error| format!("its annotation {ANNOTATION_EXTENSION} cannot be read: {error}"))
    }

    /// The text of the annotation.
    #[must_use]
    pub fn to_annotation(&self) -> String {
        serde_json::to_string(self).expect("an extension is plain data")
    }

    /// The application of this name.
    #[must_use]
    pub fn application(&self, name: &str) -> Option<&Application> {
        self.applications
            .iter()
            .find(|application| application.name == name)
    }

    /// What is launched, in order.
    #[must_use]
    pub fn launched(&self) -> Vec<LaunchItem> {
        if self.launch.cmds.is_empty() {
            let names = self.launch.app_names.iter().filter(|name| !name.is_empty());
            return names.cloned().map(LaunchItem::Application).collect();
        }
        self.launch.cmds.iter().cloned().map(LaunchItem::Line).collect()
    }

    /// Launches `items`. Lines among them make all of it lines: the annotation has one or the other.
    ///
    /// # Errors
    /// When an application is not known.
    pub fn set_launched(&mut self, items: &[LaunchItem]) -> Result<(), String> {
        let name = |item: &LaunchItem| match item {
            LaunchItem::Application(name) => Some(name.clone()),
            LaunchItem::Line(_) => None,
        };
        let names: Option<Vec<String>> = items.iter().map(name).collect();
        self.launch = match names {
            Some(app_names) => Launch {
                cmds: Vec::new(),
                app_names,
            },
            None => Launch {
                cmds: self.lines(items)?,
                app_names: Vec::new(),
            },
        };
        Ok(())
    }

    /// The shell lines of `items`, each run in the rootfs.
    ///
    /// # Errors
    /// When an application is not known.
    pub fn lines(&self, items: &[LaunchItem]) -> Result<Vec<String>, String> {
        let line = |item: &LaunchItem| match item {
            LaunchItem::Line(line) => Ok(line.clone()),
            LaunchItem::Application(name) => self
                .application(name)
                .map(Application::line)
                .ok_or_else(|| format!("it launches {name:?}, which is no application of it")),
        };
        let mut lines: Vec<String> = items.iter().map(line).collect::<Result<_, _>>()?;
        lines.retain(|line| !line.trim().is_empty());
        Ok(lines)
    }
}

impl Application {
    /// An application of these files; what it is and how it is launched is still to be said.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: APPLICATION_VERSION.to_owned(),
            ..Self::default()
        }
    }

    /// Its folder in the rootfs, with a `/` at the end.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{APPLICATIONS}/{}/", self.name)
    }

    /// The shell line that launches it, run in the rootfs with its [`Self::environment`]; empty when nothing says how.
    #[must_use]
    pub fn command(&self) -> String {
        let folder = self.folder();
        let each = |program: &str| {
            let line = |file: &String| format!("{program} {}", shell_word(&format!("{folder}{file}")));
            self.files.iter().map(line).collect::<Vec<_>>().join(" && ")
        };
        match self.kind.as_str() {
            _ if !self.cmds.is_empty() => format!("cd {} && {}", shell_word(&folder), self.cmds.join(" ")),
            // A release that is there already is no error, and gets what changed.
            "helm" => format!(
                "helm upgrade --install {} {}",
                shell_word(&self.name),
                shell_word(&folder)
            ),
            "kube" => each("kubectl apply -f"),
            "shell" => each("bash"),
            _ => String::new(),
        }
    }

    /// Its own environment: what shells take of it.
    pub fn environment(&self) -> impl Iterator<Item = (&String, &String)> {
        self.env.iter().filter(|(name, _)| is_variable(name))
    }

    /// The same line, which sets the environment itself.
    #[must_use]
    pub fn line(&self) -> String {
        let line = self.command();
        let assignment = |(name, value): (&String, &String)| format!("{name}={}", shell_word(value));
        let env: Vec<String> = self.environment().map(assignment).collect();
        if env.is_empty() || line.is_empty() {
            line
        } else {
            format!("export {} && {line}", env.join(" "))
        }
    }
}

/// The shell lines that an image wants run when its cluster is complete, in order.
///
/// The annotation decides, which every builder writes anew. Where it was lost on the way (docker's formats have none), the
/// label that Gantry's own images have beside it does.
///
/// # Errors
/// When the annotation cannot be read, or launches what is not there.
pub fn launch_lines(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<String>, String> {
    if let Some(extension) = Extension::of(manifest)? {
        return extension.lines(&extension.launched());
    }
    let label = config.config.labels.get(LABEL_COMMANDS);
    Ok(label
        .and_then(|list| serde_json::from_str(list).ok())
        .unwrap_or_default())
}

/// `text` as one word of a shell line.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(kind: &str, files: &[&str], cmds: &[&str]) -> Application {
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Application {
            kind: kind.to_owned(),
            files: list(files),
            cmds: list(cmds),
            ..Application::new("web")
        }
    }

    fn manifest(extension: &str) -> Manifest {
        let digest = gantry_model::Digest::of(b"{}");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":2}},"layers":[],"annotations":{{"{ANNOTATION_EXTENSION}":{extension:?}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_application_is_launched_as_its_type_or_its_commands_say() {
        for (application, line) in [
            (
                application("kube", &["a.yaml", "b c.yml"], &[]),
                "kubectl apply -f application/apps/web/a.yaml && kubectl apply -f 'application/apps/web/b c.yml'",
            ),
            (
                application("helm", &["Chart.yaml"], &[]),
                "helm upgrade --install web application/apps/web/",
            ),
            (
                application("shell", &["up.sh"], &[]),
                "bash application/apps/web/up.sh",
            ),
            (
                application("helm", &[], &["helm upgrade --install web .", "-f values.yaml"]),
                "cd application/apps/web/ && helm upgrade --install web . -f values.yaml",
            ),
            (application("", &["x"], &[]), ""),
        ] {
            assert_eq!(application.line(), line);
        }
        let mut with_env = application("shell", &["up.sh"], &[]);
        with_env.env = [("Replicas", "2"), ("Motto", "it's"), ("not a name", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(
            with_env.line(),
            r"export Motto='it'\''s' Replicas=2 && bash application/apps/web/up.sh"
        );
        assert_eq!(with_env.command(), "bash application/apps/web/up.sh");
    }

    #[test]
    fn an_image_of_sealer_says_what_is_launched() {
        let text = r#"{"buildClient":{"sealerVersion":"0.11.0","buildahVersion":"1.27.1"},"schemaVersion":"v1alpha1",
            "type":"app-installer","applications":[{"name":"web","type":"kube","files":["web.yaml"],"version":"v1","new":1},
            {"name":"db","type":"","cmds":["./up"],"env":null}],"launch":{"app_names":["db","web",""]},"later":{"x":[1]}}"#;
        let manifest = manifest(text);
        let lines = launch_lines(&manifest, &ImageConfig::default()).unwrap();
        assert_eq!(
            lines,
            [
                "cd application/apps/db/ && ./up",
                "kubectl apply -f application/apps/web/web.yaml"
            ]
        );
        let extension = Extension::of(&manifest).unwrap().unwrap();
        let again: Value = serde_json::from_str(&extension.to_annotation()).unwrap();
        assert_eq!(again["later"]["x"][0], 1, "what is not known here is kept");
        assert_eq!(again["applications"][0]["new"], 1);
        assert_eq!(again["launch"]["app_names"][1], "web");
    }

    #[test]
    fn lines_win_over_applications_and_the_annotation_over_the_label() {
        let mut config = ImageConfig::default();
        config
            .config
            .labels
            .insert(LABEL_COMMANDS.to_owned(), r#"["old"]"#.to_owned());
        let both = manifest(r#"{"launch":{"cmds":["ls","ls -l"],"app_names":["web"]}}"#);
        assert_eq!(launch_lines(&both, &config).unwrap(), ["ls", "ls -l"]);
        let mut none = both;
        none.annotations.clear();
        assert_eq!(launch_lines(&none, &config).unwrap(), ["old"]);
    }

    #[test]
    fn what_cannot_be_launched_is_named() {
        let config = ImageConfig::default();
        let error = launch_lines(&manifest(r#"{"launch":{"app_names":["gone"]}}"#), &config).unwrap_err();
        assert!(error.contains("\"gone\", which is no application"), "{error}");
        let error = launch_lines(&manifest("not json"), &config).unwrap_err();
        assert!(error.contains(ANNOTATION_EXTENSION), "{error}");
    }

    #[test]
    fn lines_among_applications_make_all_of_it_lines() {
        let mut extension = Extension {
            applications: vec![application("shell", &["up.sh"], &[])],
            ..Extension::default()
        };
        let web = LaunchItem::Application("web".to_owned());
        extension.set_launched(std::slice::from_ref(&web)).unwrap();
        assert_eq!(extension.launch.app_names, ["web"]);
        extension
            .set_launched(&[web, LaunchItem::Line("true".to_owned())])
            .unwrap();
        assert_eq!(extension.launch.cmds, ["bash application/apps/web/up.sh", "true"]);
        assert_eq!(extension.launched().len(), 2);
    }
}
