//! Texts before and after.

use super::*;

const HEAD: &str = "# ours\napiVersion: sealer.io/v2\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: a:b\n  hosts:\n";

fn ips(list: &[u8]) -> Vec<IpAddr> {
    list.iter().map(|last| [10, 0, 0, *last].into()).collect()
}

fn added(hosts: &str, role: Role, addresses: &[u8]) -> String {
    let (text, _) = add(&format!("{HEAD}{hosts}"), role, &ips(addresses)).unwrap();
    text.strip_prefix(HEAD).unwrap().to_owned()
}

fn removed(hosts: &str, role: Role, addresses: &[u8]) -> String {
    let (text, _) = remove(&format!("{HEAD}{hosts}"), role, &ips(addresses)).unwrap();
    text.strip_prefix(HEAD).unwrap().to_owned()
}

#[test]
fn another_image_comes_in_the_place_of_the_first() {
    let file =
        "spec:\n  image: \"sea.hub:5000/demo:v2\" # ours\n  hosts: [{ips: [10.0.0.2], roles: [master]}]\n";
    let text = format!("kind: Cluster\nmetadata: {{name: demo}}\napiVersion: sealer.io/v2\n{file}");
    let (edited, line) = set_image(&text, &"sea.hub:5000/demo:v1".parse().unwrap()).unwrap();
    assert_eq!(line, 5);
    assert_eq!(
        edited.replace('"', ""),
        text.replace('"', "").replace("demo:v2", "demo:v1")
    );
}

#[test]
fn hosts_come_behind_the_others_of_their_role() {
    let flow = "    - ips: [10.0.0.2] # the first\n      roles: [master]\n    - { ips: [ 10.0.0.3, 10.0.0.4 ], roles: [ node ] }\n";
    assert_eq!(
        added(flow, Role::Node, &[5, 6]),
        flow.replace("10.0.0.4 ]", "10.0.0.4, 10.0.0.5, 10.0.0.6 ]")
    );
    let block = "    - roles: [master]\n      ips:\n        - 10.0.0.2 # rack 1\n        # rack 2\n        - \"10.0.0.3\"   # old\n";
    assert_eq!(
        added(block, Role::Master, &[4]),
        format!("{block}        - 10.0.0.4\n")
    );
}

#[test]
fn a_role_that_has_no_plain_group_gets_one() {
    let special = "    - ips: [10.0.0.2]\n      roles: [master]\n    - ips: [10.0.0.3]\n      roles: [node]\n      env: [POOL=gpu]\n";
    assert_eq!(
        added(special, Role::Node, &[4]),
        format!("{special}    - ips: [10.0.0.4]\n      roles: [node]\n")
    );
    let flow = "    [ { ips: [10.0.0.2], roles: [master] } ]\n";
    assert_eq!(
        added(flow, Role::Node, &[4]),
        "    [ { ips: [10.0.0.2], roles: [master] }, { ips: [10.0.0.4], roles: [node] } ]\n"
    );
    let cut = "    - ips: [10.0.0.2]\n      roles: [master]";
    assert_eq!(
        added(cut, Role::Node, &[4]),
        format!("{cut}\n    - ips: [10.0.0.4]\n      roles: [node]")
    );
}

#[test]
fn hosts_go_and_leave_no_gap() {
    let flow = "    - ips: [10.0.0.2, 10.0.0.3, 10.0.0.4]\n      roles: [master]\n";
    assert_eq!(removed(flow, Role::Master, &[2]), flow.replace("10.0.0.2, ", ""));
    assert_eq!(
        removed(flow, Role::Master, &[2, 3]),
        flow.replace("10.0.0.2, 10.0.0.3, ", "")
    );
    assert_eq!(
        removed(flow, Role::Master, &[3, 4]),
        flow.replace(", 10.0.0.3, 10.0.0.4", "")
    );
    assert_eq!(
        removed(flow, Role::Master, &[2, 4]),
        "    - ips: [10.0.0.3]\n      roles: [master]\n"
    );
    let block = "    - ips: [10.0.0.2]\n      roles: [master]\n    # workers\n    - ips:\n        - 10.0.0.3 # rack 1\n        - 10.0.0.4\n      roles: [node]\n";
    assert_eq!(
        removed(block, Role::Node, &[3]),
        block.replace("        - 10.0.0.3 # rack 1\n", "")
    );
    assert_eq!(
        removed(block, Role::Node, &[3, 4]),
        "    - ips: [10.0.0.2]\n      roles: [master]\n    # workers\n"
    );
    let spread = "    - roles: [node]\n      ips: [\n        10.0.0.3, # ]\n      ]\n    - ips: [10.0.0.2]\n      roles: [master]\n---\nkind: KubeletConfiguration\nmaxPods: 100 # few\n";
    assert_eq!(
        removed(spread, Role::Node, &[3]),
        "    - ips: [10.0.0.2]\n      roles: [master]\n---\nkind: KubeletConfiguration\nmaxPods: 100 # few\n"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let text = format!("{HEAD}    - ips: [10.0.0.2]\n      roles: [master]\n");
    let [two, three] = [2, 3].map(|last| ips(&[last]));
    assert_eq!(add(&text, Role::Node, &two), Err(EditError::Present(two[0])));
    assert_eq!(remove(&text, Role::Master, &two), Err(EditError::NoMaster));
    let absent = |role| EditError::Absent {
        address: three[0],
        role,
    };
    assert_eq!(remove(&text, Role::Node, &three), Err(absent("node")));
    let (_, changes) = add(&text, Role::Master, &three).unwrap();
    assert_eq!(
        changes,
        [Change {
            address: three[0],
            line: 8
        }]
    );
}

#[test]
fn plugins_may_speak_of_a_host_that_comes_and_keep_one_that_they_name() {
    let hosts = "    - { ips: [10.0.0.2], roles: [master] }\n    - { ips: [10.0.0.3], roles: [node] }\n    \
                 - { ips: [10.0.0.4], roles: [node, db] }\n";
    let plugin = |addresses: &str| {
        format!(
            "---\nkind: Plugin\nmetadata: {{ name: a }}\nspec: {{ type: LABEL, action: PreGuest, data: \"{addresses} \
             disk=ssd\" }}\n---\nkind: Plugin\nmetadata: {{ name: b }}\nspec: {{ type: SHELL, action: PreInit, on: \
             \"{addresses}\", data: \"true\" }}\n"
        )
    };
    let ranges = format!("{hosts}{}", plugin("10.0.0.3-10.0.0.9"));
    assert!(added(&ranges, Role::Node, &[5]).contains("[10.0.0.3, 10.0.0.5]"));
    assert!(!removed(&ranges, Role::Node, &[3]).contains("[10.0.0.3]"));
    let named = format!("{HEAD}{hosts}{}", plugin("10.0.0.3"));
    assert_eq!(
        remove(&named, Role::Node, &ips(&[3])),
        Err(EditError::Mistaken("10.0.0.3 is no host of this file".into()))
    );
}

/// What is behind the head of a file of the first version, before and after an edit.
fn of_first_version(
    edit: impl Fn(&str, Role, &[IpAddr]) -> Result<(String, Vec<Change>), EditError>,
    lists: &str,
    role: Role,
    addresses: &[u8],
) -> String {
    let head = "apiVersion: sealer.aliyun.com/v1alpha1\nkind: Cluster\nmetadata: { name: demo }\nspec:\n  image: a:b\n  \
                provider: BAREMETAL\n";
    let (text, changes) = edit(&format!("{head}{lists}"), role, &ips(addresses)).unwrap();
    let changed: Vec<IpAddr> = changes.iter().map(|change| change.address).collect();
    assert_eq!(changed, ips(addresses));
    text.strip_prefix(head).unwrap().to_owned()
}

#[test]
fn hosts_of_the_first_version_come_into_its_lists() {
    let add = |lists: &str, role, addresses: &[u8]| of_first_version(add, lists, role, addresses);
    let flow = "  masters: { ipList: [ 10.0.0.2 ] } # rack 1\n  nodes:\n    ipList: [ \"10.0.0.5:2222\" ]\n";
    assert_eq!(
        add(flow, Role::Node, &[6, 7]),
        flow.replace("2222\" ]", "2222\", 10.0.0.6, 10.0.0.7 ]")
    );
    let block = "  masters:\n    ipList:\n      - 10.0.0.2 # old\n  network: { podCIDR: 100.64.0.0/10 }\n";
    assert_eq!(
        add(block, Role::Master, &[3]),
        block.replace("# old\n", "# old\n      - 10.0.0.3\n")
    );
    assert_eq!(
        add(block, Role::Node, &[3]),
        block.replace("# old\n", "# old\n  nodes:\n    ipList: [10.0.0.3]\n")
    );
    let none = "  masters: { ipList: [ 10.0.0.2 ] }\n  nodes: { ipList: [] }\n";
    assert_eq!(add(none, Role::Node, &[3]), none.replace("[]", "[10.0.0.3]"));
    let one_line = "apiVersion: sealer.io/v1\nkind: Cluster\nmetadata: { name: demo }\n\
                    spec: { image: a:b, masters: { ipList: [ 10.0.0.2 ] } }\n";
    let (text, _) = super::add(one_line, Role::Node, &ips(&[3])).unwrap();
    assert_eq!(
        text,
        one_line.replace("] } }", "] }, nodes: { ipList: [10.0.0.3] } }")
    );
}

#[test]
fn hosts_of_the_first_version_go_from_its_lists() {
    let remove = |lists: &str, role, addresses: &[u8]| of_first_version(remove, lists, role, addresses);
    let block = "  masters:\n    ipList: [ 10.0.0.2, 10.0.0.3 ]\n  nodes:\n    ipList:\n      - 10.0.0.5 # rack 1\n      \
                 - 10.0.0.6:22\n  ssh: { user: root }\n";
    assert_eq!(remove(block, Role::Master, &[2]), block.replace("10.0.0.2, ", ""));
    assert_eq!(
        remove(block, Role::Node, &[6]),
        block.replace("      - 10.0.0.6:22\n", "")
    );
    let emptied =
        "  masters:\n    ipList: [ 10.0.0.2, 10.0.0.3 ]\n  nodes:\n    ipList: []\n  ssh: { user: root }\n";
    assert_eq!(remove(block, Role::Node, &[5, 6]), emptied);
    let told = "  masters: { ipList: [ 10.0.0.2 ] }\n  nodes:\n    ipList: # workers\n      # rack 1\n      - 10.0.0.5\n      \
                # rack 2\n      - 10.0.0.6\n";
    let kept = "  masters: { ipList: [ 10.0.0.2 ] }\n  nodes:\n    ipList: [] # workers\n      # rack 1\n      # rack 2\n";
    assert_eq!(remove(told, Role::Node, &[5, 6]), kept);
    let flow = "  masters: { ipList: [ 10.0.0.2 ] }\n  nodes: { ipList: [ 10.0.0.5 ] } # all\n";
    assert_eq!(remove(flow, Role::Node, &[5]), flow.replace("[ 10.0.0.5 ]", "[]"));
}
