//! Variables and what comes of them.

use super::super::kubefile;
use super::*;

fn recipe(text: &str, build_args: &[(&str, &str)]) -> (Recipe, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let kubefile = kubefile::parse(text, &mut mistakes);
    let args = build_args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let platform = Platform {
        architecture: "arm64".into(),
        os: "linux".into(),
        variant: None,
    };
    let none = |name: &ImageReference, _: &Platform| {
        let (near, known) = (vec!["kubernetes:v1.19.8".to_owned()], Vec::new());
        Err(StoreError::NoSuchImage {
            wanted: name.to_string(),
            near,
            known,
        })
    };
    let recipe = prepare(&kubefile, &args, Some(&platform), &none, &mut mistakes);
    (recipe, mistakes)
}

fn sources(recipe: &Recipe) -> Vec<&str> {
    let step = recipe.steps.iter().find_map(|step| match &step.kind {
        StepKind::Copy { sources, .. } => Some(sources),
        _ => None,
    });
    fn path((source, _): &(CopySource, Span)) -> &str {
        match source {
            CopySource::Path(path) => path,
            CopySource::Text(..) | CopySource::Remote(..) => panic!("{source:?}"),
        }
    }
    step.unwrap().iter().map(path).collect()
}

fn lines(recipe: &Recipe) -> Vec<String> {
    let extension = recipe.applications.extension().unwrap();
    extension.lines(&extension.launched()).unwrap()
}

#[test]
fn variables_come_from_arg_env_and_the_platform() {
    let text =
        "FROM scratch\nARG V=1 W\nENV E=\"x$V\"\nCOPY ${ARCH}/helm $E-${W:-none} ${V:+set}${W:+set} .\n";
    let (recipe, mistakes) = recipe(text, &[("V", "2")]);
    assert_eq!(mistakes, []);
    assert_eq!(sources(&recipe), ["arm64/helm", "x2-none", "set"]);
    assert_eq!(recipe.env, [("E".to_owned(), "x2".to_owned())]);
}

#[test]
fn every_cmd_is_kept_in_order_and_only_arg_is_filled_in() {
    let text = "FROM scratch\nARG Replicas=2\nENV E=1\nCMD helm --set n=${Replicas} $E $HOME $Replicas2 ${Replicas\nCMD [\"kubectl\", \"a b\", \"it's\"]\n";
    let (recipe, mistakes) = recipe(text, &[]);
    assert_eq!(mistakes, []);
    assert_eq!(
        lines(&recipe),
        [
            r"helm --set n=2 $E $HOME $Replicas2 ${Replicas",
            r"kubectl 'a b' 'it'\''s'"
        ]
    );
}

#[test]
fn an_unknown_variable_is_one_mistake_with_a_suggestion() {
    let (_, mistakes) = recipe("FROM scratch\nARG Version=1\nCOPY ${Vresion}/x .\n", &[]);
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert_eq!(mistakes[0].help.as_deref(), Some("did you mean $Version?"));
    let (_, mistakes) = recipe("FROM scratch\nENV 1A=x B-C=y\n", &[]);
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
}

#[test]
fn an_image_that_is_not_there_is_named_and_hides_no_other_mistake() {
    let (_, mistakes) = recipe("FROM kubernets:v1.19.8\nCOPY $FROM_THE_BASE .\nENV 1=2\n", &[]);
    assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
    assert_eq!(mistakes[0].message, "image kubernets:v1.19.8 is not in the store");
    assert_eq!(
        mistakes[0].help.as_deref(),
        Some("did you mean kubernetes:v1.19.8?")
    );
    let (_, mistakes) = recipe("FROM Not/Lower\n", &[]);
    assert!(mistakes[0].message.contains("lower case"), "{mistakes:#?}");
}

#[test]
fn a_build_arg_that_nothing_takes_is_named_and_no_mistake() {
    let (recipe, mistakes) = recipe(
        "FROM scratch\nARG Version\n",
        &[("Versoin", "1"), ("Elsewhere", "2")],
    );
    assert_eq!(mistakes, []);
    assert_eq!(
        recipe.warnings,
        [
            "--build-arg Elsewhere is not used: no ARG declares it",
            "--build-arg Versoin is not used: no ARG declares it; did you mean --build-arg Version=…?"
        ]
    );
}

#[test]
fn proxies_and_path_need_no_declaration() {
    let run = |recipe: &Recipe| {
        let found = recipe.steps.iter().rev().find_map(|step| match &step.kind {
            StepKind::Run { env, proxies, .. } => Some((env.clone(), proxies.clone())),
            _ => None,
        });
        found.unwrap()
    };
    let given = [("HTTP_PROXY", "http://p"), ("no_proxy", "x")];
    let (one, mistakes) = recipe(
        "FROM scratch\nENV PATH=/opt/bin:$PATH\nCOPY a$FTP_PROXY b\nRUN id\n",
        &given,
    );
    assert_eq!(mistakes, []);
    assert_eq!(one.warnings, <[String; 0]>::default());
    let path = "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(one.env, [("PATH".to_owned(), path.to_owned())]);
    assert_eq!(sources(&one), ["a"]);
    let (env, proxies) = run(&one);
    assert!(!env.contains_key("HTTP_PROXY"), "no layer depends on it");
    let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(proxies, BTreeMap::from(given.clone()));
    // Whoever declares it, or sets it, wants it to count.
    let text = "FROM scratch\nARG HTTP_PROXY\nENV no_proxy=y\nRUN id\n";
    let (two, mistakes) = recipe(text, &[("HTTP_PROXY", "http://p"), ("no_proxy", "x")]);
    assert_eq!(mistakes, []);
    let (env, proxies) = run(&two);
    assert_eq!(
        (env["HTTP_PROXY"].as_str(), env["no_proxy"].as_str()),
        ("http://p", "y")
    );
    assert!(proxies.is_empty());
}

#[test]
fn from_chooses_the_platform() {
    let (arm, mistakes) = recipe(
        "FROM --platform=linux/${ARCH} scratch\nCOPY $TARGETPLATFORM .\n",
        &[],
    );
    assert_eq!(mistakes, []);
    assert_eq!(sources(&arm), ["linux/arm64"]);
    let (_, mistakes) = recipe(
        "FROM --platform=linux/s390x scratch\nFROM --platform=x scratch\n",
        &[],
    );
    assert!(
        mistakes
            .iter()
            .any(|one| one.message.contains("but --platform says linux/arm64")),
        "{mistakes:#?}"
    );
    assert!(
        mistakes.iter().any(|one| one.message.contains("OS/ARCH")),
        "{mistakes:#?}"
    );
}

#[test]
fn applications_have_labels_variables_and_commands() {
    let text = "FROM scratch\nARG N=2\nMAINTAINER Ann <a@b>\nKUBEVERSION >=1.28\nCNI calico local://calico\n\
                APP web local://${ARCH}/web\nAPPENV web A=1 B=old\nAPPENV web B=$N\n\
                APPCMDS web [\"old\"]\nAPPCMDS web [\"helm up\", \"--set n=$N $HOME\"]\nLAUNCH web\n";
    let (recipe, mistakes) = recipe(text, &[]);
    assert_eq!(mistakes, []);
    assert_eq!(recipe.author.as_deref(), Some("Ann <a@b>"));
    assert_eq!(
        recipe.labels["app.alpha.sealer.io/supported-kube-version"],
        ">=1.28"
    );
    assert_eq!(recipe.labels["cluster.alpha.sealer.io/kube-cni-calico"], "true");
    assert_eq!(
        lines(&recipe),
        ["export A=1 B=2 && cd application/apps/web/ && helm up --set n=2 $HOME"]
    );
    let destinations: Vec<&str> = recipe
        .steps
        .iter()
        .filter_map(|step| match &step.kind {
            StepKind::Copy { destination, .. } => Some(destination.0.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        destinations,
        ["application/apps/calico/", "application/apps/web/"]
    );
}

#[test]
fn slips_about_applications_are_named() {
    for (text, message, help) in [
        ("APP a/b local://x", "cannot be the name", "letters"),
        (
            "APP a local://x\nAPP a local://y",
            "a second application a",
            "another name",
        ),
        ("APP a x", "does not say where", "local://x"),
        ("APP a https://x/", "how its file is called", "its name"),
        ("COPY https://u:p@x/y .", "a password", "leave it out"),
        (
            "ADD --checksum=sha256:1 https://x/y .",
            "is no digest",
            "sha256:DIGEST",
        ),
        (
            "APP web local://x\nAPPENV wbe A=1",
            "there is no application \"wbe\"",
            "did you mean web?",
        ),
        (
            "APPCMDS web [\"x\"]",
            "there is no application \"web\"",
            "APP NAME",
        ),
    ] {
        let (_, mistakes) = recipe(&format!("FROM scratch\n{text}\n"), &[]);
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:#?}");
        assert!(mistakes[0].message.contains(message), "{mistakes:#?}");
        assert!(
            mistakes[0].help.as_deref().unwrap_or_default().contains(help),
            "{mistakes:#?}"
        );
    }
}
