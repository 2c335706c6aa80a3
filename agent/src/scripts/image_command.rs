//! Proof that a command is one of the image's: generation ─ digest ─▶ manifest ─ digest ─▶ config; in them, its commands.

use gantry_model::{Digest, ImageCommand};
use gantry_store::manifest::Manifest;
use gantry_store::{Extension, ImageConfig, launch_lines};

use super::Program;
use super::command::with_kubeconfig;
use super::image_application::{LaunchSite, relaunching};

/// How `spec` is run at `site`. The folders of the applications that it names are made ready before, each with its own
/// environment over the command's.
///
/// # Errors
/// When it is no command of that image; as [`LaunchSite::prepare`].
pub(crate) fn image_command(spec: &ImageCommand, site: &LaunchSite<'_>) -> Result<Program, String> {
    let wrong = |what: String| format!("{:?} is not run: {what}", spec.command);
    let manifest = prove(spec, &site.generation.image)?;
    let extension = Extension::of(&manifest).map_err(wrong)?.unwrap_or_default();
    let mut command = spec.command.clone();
    let applications = extension.applications.iter();
    for application in applications.filter(|one| spec.command.contains(&one.folder())) {
        let mut env = spec.env.clone();
        let own = application.environment();
        env.extend(own.map(|(name, value)| (name.clone(), value.clone())));
        site.prepare(application, &env).map_err(wrong)?;
        if site.again && spec.command.contains(&application.command()) {
            command = relaunching(application, &command);
        }
    }
    let env = with_kubeconfig(&spec.env);
    let name = format!("CMD {}", u64::from(spec.index) + 1);
    Ok(Program::bash(
        &spec.cluster,
        name,
        site.rootfs,
        vec!["-c".into(), command],
        &env,
        spec.time_limit_s,
    ))
}

fn prove(spec: &ImageCommand, image: &Digest) -> Result<Manifest, String> {
    let wrong = |what: &str| format!("{:?} is not run: {what}", spec.command);
    if Digest::of(spec.manifest.as_bytes()) != *image {
        return Err(wrong(
            "its manifest is not that of the image on this host; apply again",
        ));
    }
    let manifest: Manifest = serde_json::from_str(&spec.manifest)
        .map_err(|error| wrong(&format!("its manifest cannot be read: {error}")))?;
    if Digest::of(spec.config.as_bytes()) != manifest.config.digest {
        return Err(wrong(
            "its config is not that of the image on this host; apply again",
        ));
    }
    let config: ImageConfig = serde_json::from_str(&spec.config)
        .map_err(|error| wrong(&format!("its config cannot be read: {error}")))?;
    let commands = launch_lines(&manifest, &config).map_err(|error| wrong(&error))?;
    let place = usize::try_from(spec.index).unwrap_or(usize::MAX);
    if commands.get(place) == Some(&spec.command) {
        Ok(manifest)
    } else {
        Err(wrong("the image has another command there, or none"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripts::image_application::at_site;

    fn program(spec: &ImageCommand, image: &Digest) -> Result<Program, String> {
        at_site(image, |site| image_command(spec, site))
    }

    /// A command, and the image whose second one it is.
    fn command() -> (ImageCommand, Digest) {
        let config = r#"{"architecture":"amd64","os":"linux","config":{"Labels":{"io.gantry.commands":"[\"true\",\"echo done\"]"}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let digest = Digest::of(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{}}},"layers":[]}}"#,
            config.len()
        );
        let image = Digest::of(manifest.as_bytes());
        let spec = ImageCommand {
            cluster: "demo".parse().unwrap(),
            command: "echo done".into(),
            index: 1,
            manifest,
            config: config.into(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            time_limit_s: 60,
        };
        (spec, image)
    }

    #[test]
    fn a_command_of_the_image_runs_in_the_rootfs() {
        let (spec, image) = command();
        let program = program(&spec, &image).unwrap();
        assert!(program.command.folder.ends_with("rootfs"));
        assert_eq!(program.command.words, ["-c", "echo done"]);
        assert_eq!(program.command.env["A"], "1");
    }

    #[test]
    fn an_application_that_the_manifest_launches_is_a_command_too() {
        let (spec, _) = command();
        let extension = r#"{\"applications\":[{\"name\":\"web\",\"type\":\"kube\",\"files\":[\"a.yaml\"]}],\"launch\":{\"app_names\":[\"web\"]}}"#;
        let manifest = spec.manifest.replace(
            r#""layers":[]"#,
            &format!(r#""layers":[],"annotations":{{"sealer.image.extension":"{extension}"}}"#),
        );
        let image = Digest::of(manifest.as_bytes());
        let spec = ImageCommand {
            command: "kubectl apply -f application/apps/web/a.yaml".into(),
            index: 0,
            manifest,
            ..spec
        };
        at_site(&image, |site| {
            let folder = site.rootfs.join("application/apps/web");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("a.yaml.tmpl"), "a: {{ .A }}").unwrap();
            image_command(&spec, site).unwrap();
            assert_eq!(std::fs::read_to_string(folder.join("a.yaml")).unwrap(), "a: 1");
        });
        let label = ImageCommand {
            command: "true".into(),
            ..spec
        };
        assert!(
            program(&label, &image).is_err(),
            "the label is old where the annotation says something else"
        );
    }

    #[test]
    fn what_is_not_the_images_is_not_run() {
        let (spec, image) = command();
        let refused = |spec: &ImageCommand, image: &Digest| program(spec, image).unwrap_err();
        let other = ImageCommand {
            command: "rm -rf /".into(),
            ..spec.clone()
        };
        assert!(refused(&other, &image).contains("another command"));
        let elsewhere = ImageCommand {
            index: 7,
            ..spec.clone()
        };
        assert!(refused(&elsewhere, &image).contains("or none"));
        let forged = ImageCommand {
            config: spec.config.replace("echo done", "rm -rf /"),
            command: "rm -rf /".into(),
            ..spec.clone()
        };
        assert!(refused(&forged, &image).contains("config"));
        assert!(refused(&spec, &Digest::of(b"another image")).contains("manifest"));
    }
}
