//! Proof of how an application of an image is launched: generation ─ digest ─▶ manifest; in its annotation, the application;
//! and of what programs its folder has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gantry_model::{ApplicationLaunch, Digest, Generation};
use gantry_store::manifest::Manifest;
use gantry_store::{Application, Extension, Store};

use super::application_programs::make_images_own;
use super::command::with_kubeconfig;
use super::{Program, check_environment};
use crate::configs::Configs;
use crate::templates;

/// Of which a release is while helm works on it.
const PENDING: &str = "status in (pending-install,pending-upgrade,pending-rollback)";

/// Where helm keeps releases, for a shell: helm follows the variable, kubectl does not; without it both follow the kubeconfig.
const NAMESPACE: &str = r#"${HELM_NAMESPACE:+--namespace "$HELM_NAMESPACE"}"#;

/// Whether `spec` is within bounds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_launch(spec: &ApplicationLaunch) -> Result<(), String> {
    if !ApplicationLaunch::is_name(&spec.application) {
        let name: String = spec
            .application
            .chars()
            .take(ApplicationLaunch::MAX_NAME_LEN)
            .collect();
        return Err(format!("{name:?} cannot be the name of an application"));
    }
    check_environment(spec.env.len(), &spec.env)
}

/// The generation in which applications are launched.
#[derive(Debug)]
pub(crate) struct LaunchSite<'a> {
    /// What has its layers.
    pub(crate) store: &'a Store,
    /// It.
    pub(crate) generation: &'a Generation,
    /// Its rootfs.
    pub(crate) rootfs: &'a Path,
    /// The config files in it.
    pub(crate) configs: &'a Configs,
    /// An earlier launch may have left something behind.
    pub(crate) again: bool,
}

impl LaunchSite<'_> {
    /// Makes the folder of `application` ready: its templates are rendered with `env`, and its programs are the image's, also
    /// where it changed them itself.
    ///
    /// # Errors
    /// A mistake in a template, or a program that cannot be the image's: also one that a template makes anew.
    pub(super) fn prepare(
        &self,
        application: &Application,
        env: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let name = &application.name;
        if !ApplicationLaunch::is_name(name) {
            return Ok(());
        }
        let rendered = templates::render_application(self.rootfs, name, env, self.configs)
            .map_err(|error| error.to_string())?;
        let (folder, command) = (application.folder(), application.command());
        let layers = &self.generation.layers;
        make_images_own(
            self.store,
            layers,
            self.configs,
            &folder,
            &named(&folder, &command),
            &rendered,
        )
        .map_err(|error| error.to_string())
    }
}

/// The line that launches `application` where `command` is what the image says: after a launch that was killed, helm would take the
/// release for one that somebody else installs at this moment. What it noted of that goes; what it made stays, and is taken over.
pub(super) fn relaunching(application: &Application, command: &str) -> String {
    let is_own = application.kind == "helm" && application.cmds.is_empty();
    if !is_own || !ApplicationLaunch::is_name(&application.name) {
        return command.to_owned();
    }
    let name = &application.name;
    // Secrets of releases, by the labels that helm gives them, where helm keeps them.
    format!(
        "kubectl delete secrets {NAMESPACE} --ignore-not-found --selector 'owner=helm,name={name},{PENDING}'; {command}"
    )
}

/// The files below `folder` that `command`, which runs there or in the rootfs, may name.
fn named(folder: &str, command: &str) -> BTreeSet<String> {
    let ends = |letter: char| letter.is_whitespace() || "'\";|&()<>=`$".contains(letter);
    let words = command.split(ends).map(|word| word.trim_start_matches("./"));
    words
        .filter(|word| !word.is_empty())
        .map(|word| match word.strip_prefix(folder) {
            Some(_) => word.to_owned(),
            None => format!("{folder}{word}"),
        })
        .collect()
}

/// How the application of `spec` is launched at `site`.
///
/// # Errors
/// When its image has no such application, or does not say how it is launched; as [`LaunchSite::prepare`].
pub(crate) fn launch_program(spec: &ApplicationLaunch, site: &LaunchSite<'_>) -> Result<Program, String> {
    let name = &spec.application;
    let wrong = |what: String| format!("application {name} is not launched: {what}");
    if Digest::of(spec.manifest.as_bytes()) != site.generation.image {
        let what = "its manifest is not that of the image on this host; apply again";
        return Err(wrong(what.into()));
    }
    let manifest: Manifest = serde_json::from_str(&spec.manifest)
        .map_err(|error| wrong(format!("its manifest cannot be read: {error}")))?;
    let extension = Extension::of(&manifest).map_err(wrong)?.unwrap_or_default();
    let application = extension.application(name);
    let application = application.ok_or_else(|| wrong("the image has no such application".into()))?;
    let command = application.command();
    if command.is_empty() {
        return Err(wrong("the image does not say how".into()));
    }
    site.prepare(application, &spec.env).map_err(wrong)?;
    let command = if site.again {
        relaunching(application, &command)
    } else {
        command
    };
    Ok(Program::bash(
        &spec.cluster,
        format!("application {name}"),
        site.rootfs,
        vec!["-c".into(), command],
        &with_kubeconfig(&spec.env),
        spec.time_limit_s,
    ))
}

/// Does `act` where a generation of `image` without layers is, in a folder of its own.
#[cfg(test)]
pub(super) fn at_site<T>(image: &Digest, act: impl FnOnce(&LaunchSite<'_>) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let (rootfs, store) = (folder.path().join("rootfs"), folder.path().join("store"));
    std::fs::create_dir(&rootfs).unwrap();
    let generation = Generation {
        id: gantry_model::GenerationId(1),
        cluster: "demo".parse().unwrap(),
        image: *image,
        layers: Vec::new(),
    };
    act(&LaunchSite {
        store: &Store::open(&store).unwrap(),
        generation: &generation,
        rootfs: &rootfs,
        configs: &Configs::open(rootfs.clone(), folder.path().join("configs")).unwrap(),
        again: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The launch of an application, and the image that has it and does not launch it by itself.
    fn launch(application: &str) -> (ApplicationLaunch, Digest) {
        let extension = r#"{\"applications\":[{\"name\":\"web\",\"type\":\"kube\",\"files\":[\"a.yaml\"],\"env\":{\"A\":\"1\"}},{\"name\":\"odd\"}]}"#;
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":2}},"layers":[],"annotations":{{"sealer.image.extension":"{extension}"}}}}"#,
            Digest::of(b"{}")
        );
        let image = Digest::of(manifest.as_bytes());
        let spec = ApplicationLaunch {
            cluster: "demo".parse().unwrap(),
            application: application.into(),
            manifest,
            env: [("A".to_owned(), "2".to_owned())].into(),
            time_limit_s: 60,
        };
        (spec, image)
    }

    fn program(spec: &ApplicationLaunch, image: &Digest) -> Result<Program, String> {
        at_site(image, |site| launch_program(spec, site))
    }

    #[test]
    fn a_command_names_files_of_its_folder() {
        let found = named(
            "apps/web/",
            "cd apps/web/ && bash ./up -c'x';python3 apps/web/a.py</dev/null",
        );
        for file in ["apps/web/up", "apps/web/a.py", "apps/web/bash"] {
            assert!(found.contains(file), "{file}: {found:?}");
        }
    }

    #[test]
    fn its_templates_are_rendered_with_its_values() {
        let (spec, image) = launch("web");
        at_site(&image, |site| {
            let folder = site.rootfs.join("application/apps/web");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("a.yaml.tmpl"), "a: {{ .A }}").unwrap();
            launch_program(&spec, site).unwrap();
            assert_eq!(std::fs::read_to_string(folder.join("a.yaml")).unwrap(), "a: 2");
            std::fs::write(folder.join("b.tmpl"), "{{ .A").unwrap();
            let refused = launch_program(&spec, site).unwrap_err();
            assert!(
                refused.contains("application web is not launched") && refused.contains("b.tmpl"),
                "{refused}"
            );
        });
    }

    #[test]
    fn an_application_of_the_image_is_launched_as_the_image_says() {
        let (spec, image) = launch("web");
        let program = program(&spec, &image).unwrap();
        assert!(program.command.folder.ends_with("rootfs"));
        assert_eq!(
            program.command.words,
            ["-c", "kubectl apply -f application/apps/web/a.yaml"]
        );
        assert_eq!(program.command.env["A"], "2");
    }

    /// What the line says to kubectl, by a shell.
    #[test]
    fn a_pending_release_is_looked_for_where_helm_keeps_it() {
        let application: Application = serde_json::from_str(r#"{"name":"chart","type":"helm"}"#).unwrap();
        let line = relaunching(&application, "true");
        let said = |namespace: Option<&str>| {
            let mut shell = std::process::Command::new("bash");
            shell.args(["-c", &format!("kubectl() {{ printf '%s\\n' \"$@\"; }}; {line}")]);
            shell.env_remove("HELM_NAMESPACE");
            if let Some(namespace) = namespace {
                shell.env("HELM_NAMESPACE", namespace);
            }
            let output = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            output.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let rest = [
            "--ignore-not-found",
            "--selector",
            &format!("owner=helm,name=chart,{PENDING}"),
        ];
        assert_eq!(said(None), [&["delete", "secrets"][..], &rest].concat());
        assert_eq!(said(Some("")), said(None));
        let there = [&["delete", "secrets", "--namespace", "a b"][..], &rest].concat();
        assert_eq!(said(Some("a b")), there);
    }

    #[test]
    fn a_release_that_a_killed_launch_left_pending_is_launched_again() {
        let (mut spec, _) = launch("chart");
        spec.manifest = spec.manifest.replace(
            r#"{\"name\":\"odd\"}"#,
            r#"{\"name\":\"chart\",\"type\":\"helm\"}"#,
        );
        let image = Digest::of(spec.manifest.as_bytes());
        let line = |again| {
            at_site(&image, |site| {
                let site = LaunchSite { again, ..*site };
                launch_program(&spec, &site).unwrap().command.words[1].clone()
            })
        };
        let first = "helm upgrade --install chart application/apps/chart/";
        assert_eq!(line(false), first);
        assert_eq!(
            line(true),
            format!(
                "kubectl delete secrets ${{HELM_NAMESPACE:+--namespace \"$HELM_NAMESPACE\"}} --ignore-not-found \
                 --selector 'owner=helm,name=chart,{PENDING}'; {first}"
            )
        );
        // What an image says itself is run as it says.
        let (spec, image) = launch("web");
        let own = at_site(&image, |site| {
            let site = LaunchSite { again: true, ..*site };
            launch_program(&spec, &site).unwrap().command.words[1].clone()
        });
        assert_eq!(own, "kubectl apply -f application/apps/web/a.yaml");
    }

    #[test]
    fn what_the_image_does_not_say_is_not_run() {
        for (application, why) in [("gone", "no such application"), ("odd", "does not say how")] {
            let (spec, image) = launch(application);
            let refused = program(&spec, &image).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let (spec, image) = launch("web");
        let forged = ApplicationLaunch {
            manifest: spec.manifest.replace("a.yaml", "b.yaml"),
            ..spec.clone()
        };
        assert!(program(&forged, &image).unwrap_err().contains("manifest"));
        check_launch(&spec).unwrap();
        let odd = ApplicationLaunch {
            application: "../web".into(),
            ..spec
        };
        assert!(check_launch(&odd).is_err());
    }
}
