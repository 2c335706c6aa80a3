//! [`KubeadmSpec`] → the program of the rootfs that is run. Pure.

use std::path::Path;

use gantry_model::{JoinPass, KubeadmAct, KubeadmSpec};
use gantry_protocol::limits::{MAX_KUBEADM_CONFIG_LEN, MAX_SCRIPT_WORDS};

use super::PROGRAM;
use crate::scripts::{BASH, Program, SECRET, SecretFile};

/// Longest version, in bytes: `v1.20.2` and a word or two about who built it.
const MAX_VERSION_LEN: usize = 64;
/// Undoes what an unfinished run left behind, then does what is asked. `$0` is kubeadm.
const AGAIN: &str = r#""$0" reset --force && exec "$0" "$@""#;

/// Whether `spec` is within bounds.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(spec: &KubeadmSpec) -> Result<(), String> {
    check_config(&spec.config)?;
    let words = || spec.skipped_phases.iter().chain(&spec.ignored_checks);
    if words().count() > MAX_SCRIPT_WORDS {
        return Err(format!(
            "kubeadm is given more than {MAX_SCRIPT_WORDS} phases and checks"
        ));
    }
    let plain = |word: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/' | b'.');
        !word.is_empty() && word.bytes().all(legal)
    };
    check_version(&spec.kubernetes)?;
    match words().find(|word| !plain(word)) {
        Some(word) => Err(format!("{word:?} is no phase and no check of kubeadm")),
        None => Ok(()),
    }
}

/// Whether `config` is within bounds.
///
/// # Errors
/// When it is too long.
pub(crate) fn check_config(config: &str) -> Result<(), String> {
    let len = config.len();
    if len <= MAX_KUBEADM_CONFIG_LEN {
        return Ok(());
    }
    Err(format!(
        "kubeadm's configuration has {len} bytes; at most {MAX_KUBEADM_CONFIG_LEN} are allowed"
    ))
}

/// Whether `version` can be a version of Kubernetes; none is one, too.
///
/// # Errors
/// When it cannot.
pub(crate) fn check_version(version: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    if version.len() <= MAX_VERSION_LEN && version.bytes().all(legal) && !version.starts_with('-') {
        return Ok(());
    }
    Err(format!("{version:?} is no version of Kubernetes"))
}

/// How kubeadm is run for `spec` in the rootfs at `rootfs`, by a step whose folder is `folder`; with `again` after
/// undoing what an unfinished run left behind.
pub(crate) fn program(
    spec: &KubeadmSpec,
    pass: Option<&JoinPass>,
    again: bool,
    rootfs: &Path,
    folder: &Path,
) -> Program {
    let config = folder.join(SECRET);
    let list =
        |flag: &str, words: &[String]| (!words.is_empty()).then(|| format!("--{flag}={}", words.join(",")));
    let mut words: Vec<String> = match spec.act {
        // A token that prints itself ends up in logs; passes have tokens of their own.
        KubeadmAct::Init => [
            "init",
            "--upload-certs",
            "--skip-token-print",
            "--skip-certificate-key-print",
        ]
        .map(str::to_owned)
        .into(),
        KubeadmAct::Join { .. } => vec!["join".into()],
        KubeadmAct::Reset => vec!["reset".into(), "--force".into()],
        // With the cluster's own configuration, which is in the cluster.
        KubeadmAct::Upgrade { first: true } => ["upgrade", "apply", &spec.kubernetes, "--yes"]
            .map(str::to_owned)
            .into(),
        KubeadmAct::Upgrade { first: false } => vec!["upgrade".into(), "node".into()],
    };
    if spec.act != KubeadmAct::Reset {
        words.extend(list("ignore-preflight-errors", &spec.ignored_checks));
    }
    let becomes_member = matches!(spec.act, KubeadmAct::Init | KubeadmAct::Join { .. });
    let secret = becomes_member.then(|| {
        words.extend(["--config".into(), config.to_string_lossy().into_owned()]);
        words.extend(list("skip-phases", &spec.skipped_phases));
        let content = pass.map_or_else(|| spec.config.clone(), |pass| pass.fill_in(&spec.config));
        SecretFile {
            path: config.clone(),
            content,
        }
    });
    let kubeadm = rootfs.join(PROGRAM);
    let (program, words) = if again && becomes_member {
        let first = [
            "-c".to_owned(),
            AGAIN.to_owned(),
            kubeadm.to_string_lossy().into_owned(),
        ];
        (BASH.into(), first.into_iter().chain(words).collect())
    } else {
        (kubeadm, words)
    };
    Program::of_image(&spec.cluster, PROGRAM, rootfs, program, words, spec.time_limit_s).with_secret(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(act: KubeadmAct) -> KubeadmSpec {
        KubeadmSpec {
            cluster: "demo".parse().unwrap(),
            act,
            kubernetes: "v1.20.2".into(),
            config: "token: {token}\n".into(),
            skipped_phases: vec!["addon/coredns".into()],
            ignored_checks: vec!["ImagePull".into()],
            time_limit_s: 600,
        }
    }

    fn words(program: &Program) -> Vec<&str> {
        program.command.words.iter().map(String::as_str).collect()
    }

    #[test]
    fn init_is_given_its_configuration_and_prints_no_token() {
        let program = program(
            &spec(KubeadmAct::Init),
            None,
            false,
            Path::new("/r"),
            Path::new("/steps/1"),
        );
        assert_eq!(program.command.program, Path::new("/r/bin/kubeadm"));
        assert_eq!(
            words(&program),
            [
                "init",
                "--upload-certs",
                "--skip-token-print",
                "--skip-certificate-key-print",
                "--ignore-preflight-errors=ImagePull",
                "--config",
                "/steps/1/secret",
                "--skip-phases=addon/coredns",
            ]
        );
    }

    #[test]
    fn a_second_attempt_begins_by_undoing_the_first() {
        let join = KubeadmAct::Join {
            from: [10, 0, 0, 1].into(),
            control_plane: false,
        };
        let pass = JoinPass {
            token: "abcdef.0123456789abcdef".into(),
            ca_hash: "sha256:00".into(),
            certificate_key: None,
        };
        let program = program(
            &spec(join),
            Some(&pass),
            true,
            Path::new("/r"),
            Path::new("/steps/1"),
        );
        assert_eq!(program.command.program, Path::new(BASH));
        assert_eq!(words(&program)[..4], ["-c", AGAIN, "/r/bin/kubeadm", "join"]);
        let secret = program.secret.unwrap();
        assert_eq!(secret.content, "token: abcdef.0123456789abcdef\n");
    }

    #[test]
    fn an_upgrade_takes_the_clusters_own_configuration_and_undoes_nothing() {
        let upgrade = |first| {
            let spec = spec(KubeadmAct::Upgrade { first });
            program(&spec, None, true, Path::new("/r"), Path::new("/steps/1"))
        };
        let (first, other) = (upgrade(true), upgrade(false));
        assert_eq!(first.command.program, Path::new("/r/bin/kubeadm"));
        let ignored = "--ignore-preflight-errors=ImagePull";
        assert_eq!(words(&first), ["upgrade", "apply", "v1.20.2", "--yes", ignored]);
        assert_eq!(words(&other), ["upgrade", "node", ignored]);
        assert!(first.secret.is_none() && other.secret.is_none());
    }

    #[test]
    fn a_version_is_no_option() {
        for version in ["", "v1.20.2", "v1.20.2-rc.1+vendor"] {
            check_version(version).unwrap();
        }
        for odd in ["--force", "v1 2", "a/b"] {
            assert!(check_version(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn phases_and_checks_are_words() {
        check(&spec(KubeadmAct::Init)).unwrap();
        for odd in ["", "a b", "x;y", "--config"] {
            let mut spec = spec(KubeadmAct::Init);
            spec.ignored_checks = vec![odd.into()];
            assert_eq!(check(&spec).is_ok(), odd == "--config", "{odd:?}");
        }
        let mut long = spec(KubeadmAct::Init);
        long.config = "x".repeat(MAX_KUBEADM_CONFIG_LEN + 1);
        assert!(check(&long).is_err());
    }
}
