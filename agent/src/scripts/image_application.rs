//! Proof of how an application of an image is launched: generation ─ digest ─▶ manifest; in its annotation, the application;
//! and of what programs its folder has.

use std::path::Path;

use gantry_model::{ApplicationLaunch, Digest};
use gantry_store::manifest::Manifest;
use gantry_store::{Extension, Store};

use super::command::with_kubeconfig;
use super::proof::prove_programs;
use super::{Program, check_environment};

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

/// How the application of `spec` is launched in the rootfs at `rootfs`, whose generation is of `image` and has its `layers`
/// (bottom first).
///
/// # Errors
/// When that image has no such application, or does not say how it is launched; when a program of it was changed.
pub(crate) fn launch_program(
    spec: &ApplicationLaunch,
    image: &Digest,
    store: &Store,
    layers: &[Digest],
    rootfs: &Path,
) -> Result<Program, String> {
    let name = &spec.application;
    let wrong = |what: String| format!("application {name} is not launched: {what}");
    if Digest::of(spec.manifest.as_bytes()) != *image {
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
    prove_programs(store, layers, rootfs, &application.folder()).map_err(|error| wrong(error.to_string()))?;
    Ok(Program::bash(
        &spec.cluster,
        format!("application {name}"),
        rootfs,
        vec!["-c".into(), command],
        &with_kubeconfig(&spec.env),
        spec.time_limit_s,
    ))
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

    /// How `spec` is launched where the image has no layers.
    fn program(spec: &ApplicationLaunch, image: &Digest) -> Result<Program, String> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        launch_program(spec, image, &store, &[], Path::new("/r"))
    }

    #[test]
    fn an_application_of_the_image_is_launched_as_the_image_says() {
        let (spec, image) = launch("web");
        let program = program(&spec, &image).unwrap();
        assert_eq!(program.command.folder, Path::new("/r"));
        assert_eq!(
            program.command.words,
            ["-c", "kubectl apply -f application/apps/web/a.yaml"]
        );
        assert_eq!(program.command.env["A"], "2");
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
