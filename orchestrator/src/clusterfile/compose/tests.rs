//! Texts, and what becomes of them.

use super::*;
use crate::clusterfile::Clusterfile;

fn ips(list: &[u8]) -> Vec<IpAddr> {
    list.iter().map(|last| [10, 0, 0, *last].into()).collect()
}

fn hosts(masters: &[u8], nodes: &[u8]) -> Choices {
    Choices {
        image: Some("demo:v1".parse().unwrap()),
        masters: ips(masters),
        nodes: ips(nodes),
        ..Choices::default()
    }
}

fn composed(base: &str, choices: &Choices) -> String {
    let text = compose("Clusterfile", base, choices).unwrap();
    if let Err(mistakes) = Clusterfile::parse("Clusterfile", &text) {
        panic!("{text}\n{}", mistakes.render(false));
    }
    text
}

#[test]
fn without_a_clusterfile_there_is_a_plain_one() {
    let text = composed(PLAIN, &hosts(&[2], &[3, 4]));
    assert_eq!(
        text,
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata:\n  name: my-cluster\nspec:\n  image: demo:v1\n  hosts:\n  - ips:\n    \
         - 10.0.0.2\n    roles:\n    - master\n  - ips:\n    - 10.0.0.3\n    - 10.0.0.4\n    roles:\n    - node\n"
    );
}

#[test]
fn hosts_are_the_given_ones_and_get_what_the_text_says_about_their_role() {
    let base = "kind: Cluster\napiVersion: sealer.io/v2\nmetadata: { name: shop }\nspec:\n  image: other:v1\n  ssh: { passwd: x }\n  hosts:\n    \
                - { ips: [ 10.9.9.1 ], roles: [ master ], taints: [ \"a=b:NoSchedule\" ], ssh: { user: root } }\n    \
                - { ips: [ 10.9.9.2 ], roles: [ node, db ], labels: { disk: ssd } }\n    \
                - { ips: [ 10.9.9.3 ], roles: [ node ] }\n\
                ---\nkind: Config\nspec:\n  path: etc/a\n  data: |\n    one\n    two\n";
    let text = composed(base, &hosts(&[2], &[3]));
    assert!(text.contains("a=b:NoSchedule") && !text.contains("ssh"), "{text}");
    assert!(
        !text.contains("10.9.9") && !text.contains("ssd"),
        "two groups are two meanings: {text}"
    );
    assert!(text.contains("data: |\n    one\n    two\n"), "{text}");
    let (clusterfile, notes) = Clusterfile::parse("Clusterfile", &text).unwrap();
    assert_eq!(clusterfile.hosts.len(), 2);
    assert_eq!((clusterfile.name.as_str(), notes.len()), ("shop", 0));
}

#[test]
fn the_first_version_becomes_the_second() {
    let base = "apiVersion: sealer.aliyun.com/v1alpha1\nkind: Cluster\nmetadata: { name: old }\nspec:\n  image: other:v1\n  \
                provider: ALI_CLOUD\n  network: { podCIDR: 10.1.0.0/16 }\n  masters: { count: \"3\" }\n";
    let text = composed(base, &hosts(&[2, 5], &[]));
    assert!(text.starts_with("apiVersion: sealer.io/v2\n"), "{text}");
    assert!(
        text.contains("PodCIDR=10.1.0.0/16") && !text.contains("ALI_CLOUD"),
        "{text}"
    );
}

#[test]
fn variables_and_what_is_launched_come_over_the_text() {
    let base = "kind: Cluster\napiVersion: sealer.io/v2\nmetadata: { name: shop }\nspec:\n  image: a\n  env: [ A=1, \"B=x y\" ]\n  \
                cmd: [ old ]\n  hosts: [ { ips: [ 10.9.9.1 ], roles: [ master ] } ]\n\
                ---\nkind: Application\napiVersion: sealer.io/v2\nspec:\n  configs:\n    - { name: web, env: [ R=1, S=1 ] }\n";
    let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let pair = |name: &str, variable: &str| (name.to_owned(), variable.to_owned());
    let choices = Choices {
        env: texts(&["A=2", "C=\"q\"=#", "A=3"]),
        applications: Some(texts(&["web", "db"])),
        application_env: vec![pair("web", "R=2"), pair("db", "T=1")],
        ..Choices::default()
    };
    let text = composed(base, &choices);
    let (clusterfile, _) = Clusterfile::parse("Clusterfile", &text).unwrap();
    let env: Vec<_> = clusterfile
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(env, ["A=3", "B=x y", "C=\"q\"=#"]);
    assert_eq!(clusterfile.applications.launched, Some(texts(&["web", "db"])));
    assert!(clusterfile.commands.is_empty(), "{text}");
    let web = &clusterfile.applications.settings["web"].env;
    assert_eq!((web["R"].as_str(), web["S"].as_str()), ("2", "1"));
    assert_eq!(clusterfile.applications.settings["db"].env["T"], "1");

    let none = Choices {
        applications: Some(Vec::new()),
        ..Choices::default()
    };
    let (clusterfile, _) = Clusterfile::parse("Clusterfile", &composed(base, &none)).unwrap();
    assert_eq!(clusterfile.applications.launched, Some(Vec::new()));
    let commands = Choices {
        commands: texts(&["a, b: c"]),
        ..Choices::default()
    };
    let (clusterfile, _) = Clusterfile::parse("Clusterfile", &composed(base, &commands)).unwrap();
    assert_eq!(clusterfile.commands[0].text, "a, b: c");
}

#[test]
fn words_that_readers_may_take_for_something_else_are_quoted() {
    for text in [
        "1", "1.5", "true", "no", "off", "1e3", "a: b", "1:30", "-a", "~", "null", "v1:",
    ] {
        assert_eq!(word(text), quoted(text), "{text}");
    }
    for text in [
        "master",
        "10.0.0.1",
        "fd00::1",
        "demo:v1",
        "sea.hub:5000/demo@sha256:ab",
        "my-cluster",
    ] {
        assert_eq!(word(text), Yaml::Scalar(Scalar::plain(text)), "{text}");
    }
}

#[test]
fn a_text_that_is_no_yaml_has_its_place() {
    let mistakes = compose("image", "a: [\n", &hosts(&[2], &[])).unwrap_err();
    assert!(
        mistakes.render(false).contains("image:"),
        "{}",
        mistakes.render(false)
    );
    compose("image", "- a\n", &hosts(&[2], &[])).unwrap_err();
}
