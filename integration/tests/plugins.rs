//! Plugins: commands of the Clusterfile itself, where the host allows it, and of plugins of the image, which it proves, at the moments
//! they name, each once; and names of hosts.

use anyhow::Result;
use gantry_integration::{Host, ImageTree, Operator, Testbed};

const LOG: &str = "/var/log/story";

fn clusterfile(operator: &Operator, hosts: [&Host; 2], documents: &str) -> Result<()> {
    let [one, two] = hosts.map(Host::address);
    let text = format!(
        "apiVersion: sealer.io/v2\nkind: Cluster\nmetadata: {{ name: demo }}\nspec:\n  image: demo:v1\n  \
         env: [ Greeting=hello ]\n  hosts:\n    - ips: [{one}]\n      roles: [master]\n    - ips: [{two}]\n      roles: [node]\n\
         {documents}"
    );
    operator.put("Clusterfile", text).map(drop)
}

fn plugin(name: &str, action: &str, more: &str, data: &str) -> String {
    format!(
        "---\napiVersion: sealer.io/v1\nkind: Plugin\nmetadata: {{ name: {name} }}\nspec: {{ type: SHELL, action: {action:?}, \
         {more} data: {data:?} }}\n"
    )
}

fn note(word: &str) -> String {
    format!("echo {word} >>{LOG}\n")
}

fn story(host: &Host) -> Result<Vec<String>> {
    let log = host.must(&format!("cat {LOG}"))?;
    Ok(log.lines().map(str::to_owned).collect())
}

fn allow_exec(host: &Host, allowed: bool) -> Result<()> {
    host.must(&format!(
        "echo allow_exec = {allowed} >/etc/gantry/agent.toml && systemctl restart gantry-agent"
    ))?;
    host.wait_for_agent()
}

#[test]
fn commands_run_where_hosts_allow_it_at_their_moments_each_once() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let hosts @ [one, two] = [bed.host(1), bed.host(2)];
    ImageTree::at(&operator.desk().join("image"))
        .unwrap()
        .file("etc/here", "")
        .unwrap()
        .script("init.sh", &note("init"))
        .unwrap()
        .script("clean.sh", &note("clean"))
        .unwrap()
        .file(
            "Kubefile",
            format!("FROM scratch\nCOPY . .\nCMD echo cmd >>{LOG}\n"),
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let secret = "hunter2";
    let documents = |early: &str| {
        [
            // In the rootfs, with the environment of scripts, and with what shells make of a text of several lines.
            plugin(
                "early",
                "PreInit|PreJoin",
                "",
                &format!(
                    "password={secret}\ntest -e etc/here &&\n  {}",
                    note(&format!("\"{early} $Greeting $HostIP\""))
                ),
            ),
            plugin("nodes", "post-init-host", "scope: node,", &note("joined")),
            plugin("last", "PostInstall", "on: master0,", &note("last")),
            plugin("bye", "PreClean|PostClean", "", &note("bye")),
        ]
        .concat()
    };

    // One host allows it, the other does not: nothing is changed.
    clusterfile(operator, hosts, &documents("early")).unwrap();
    allow_exec(one, true).unwrap();
    let refused = operator.apply().unwrap().finished;
    let said = refused.all_output();
    assert_eq!(refused.status, Some(3), "{said}");
    assert!(
        said.contains(&format!(
            "{}: plugin early, plugin nodes would run there",
            two.address()
        )) && said.contains("set `allow_exec = true` in /etc/gantry/agent.toml")
            && said.contains("1 of 2 hosts is not ready; nothing was changed"),
        "{said}"
    );
    for host in hosts {
        assert!(!host.run("test -e /var/lib/gantry/data/demo").unwrap().succeeded());
    }

    allow_exec(two, true).unwrap();
    operator.apply().unwrap().ok().unwrap();
    let early = |host: &Host| format!("early hello {}", host.address());
    assert_eq!(story(one).unwrap(), [early(one).as_str(), "init", "cmd", "last"]);
    assert_eq!(story(two).unwrap(), [early(two).as_str(), "init", "joined"]);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // What it says is known to nobody but root while it runs, and to nobody afterwards.
    let left = two
        .must(&format!(
            "grep -rl {secret} /var/lib/gantry/agent || true; journalctl --no-pager | grep {secret} || true"
        ))
        .unwrap();
    assert_eq!(left, "");

    // A changed one runs again, and nothing else does.
    clusterfile(operator, hosts, &documents("again")).unwrap();
    let changed = operator.apply().unwrap().ok().unwrap();
    for host in hosts {
        assert_eq!(changed.steps_on(host), ["plugin early"], "{}", changed.finished);
    }

    // One that fails is told with what it said last, and runs again.
    let failing = plugin(
        "fails",
        "PreInit",
        "on: node,",
        "echo no disk >&2\ntest -e /root/disk || exit 7\n",
    );
    clusterfile(operator, hosts, &(documents("again") + &failing)).unwrap();
    let failed = operator.gantry("apply -f Clusterfile -y").unwrap();
    let said = failed.all_output();
    assert!(
        said.contains(&format!(
            "plugin fails failed on {}: exit status 7",
            two.address()
        )) && said.contains("| no disk")
            && said.contains("gantry logs -c demo"),
        "{said}"
    );
    two.must("touch /root/disk").unwrap();
    let mended = operator.apply().unwrap().ok().unwrap();
    assert_eq!(mended.steps_on(two), ["plugin fails"], "{}", mended.finished);
    assert_eq!(mended.steps_on(one), Vec::<String>::new(), "{}", mended.finished);

    // Taking it down needs the host's leave, too.
    allow_exec(two, false).unwrap();
    let refused = operator.gantry("reset -f Clusterfile -y").unwrap();
    assert_eq!(refused.status, Some(3), "{refused}");
    assert!(
        refused.all_output().contains("plugin bye would run there"),
        "{refused}"
    );
    allow_exec(two, true).unwrap();
    operator.must("reset -f Clusterfile -y").unwrap();
    for host in hosts {
        let story = story(host).unwrap();
        assert_eq!(story[story.len() - 3..], ["bye", "clean", "bye"], "{story:?}");
    }
}

#[test]
fn a_host_gets_its_name_before_its_scripts_run_and_its_old_one_back() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    ImageTree::at(&operator.desk().join("image"))
        .unwrap()
        .script(
            "init.sh",
            &note("$(hostname) $(getent -s files hosts db-1.example.test)"),
        )
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let file = operator.clusterfile("demo:v1", &[host]).unwrap();
    let text = std::fs::read_to_string(operator.desk().join(file)).unwrap();
    let plugin = format!(
        "---\napiVersion: sealer.aliyun.com/v1alpha1\nkind: Plugin\nmetadata: {{ name: names }}\nspec:\n  type: HOSTNAME\n  \
         action: PreInit\n  data: |\n    {} db-1.example.test\n",
        host.address()
    );
    operator.put(file, format!("{text}{plugin}")).unwrap();
    let names = || host.must("hostname; cat /etc/hostname").unwrap();
    let before = names();

    operator.apply().unwrap().ok().unwrap();
    assert_eq!(names(), "db-1.example.test\ndb-1.example.test\n");
    let seen = story(host).unwrap().concat();
    assert!(
        seen.starts_with(&format!("db-1.example.test {}", host.address())),
        "{seen}"
    );
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    host.must("hostname other").unwrap();
    let plan = operator.must("plan -f Clusterfile").unwrap();
    assert!(plan.contains("hostname") && plan.contains("drifted"), "{plan}");
    let repaired = operator.apply().unwrap().ok().unwrap();
    assert_eq!(repaired.steps_on(host), ["hostname"], "{}", repaired.finished);
    host.reboot().unwrap();
    host.wait_for_agent().unwrap();
    assert_eq!(names(), "db-1.example.test\ndb-1.example.test\n");

    operator.must("reset -f Clusterfile -y").unwrap();
    assert_eq!(names(), before);
    let left = host.must("ls /var/lib/gantry/hostnames").unwrap();
    assert_eq!(left, "");
}

#[test]
fn plugins_of_the_image_run_on_hosts_that_allow_nothing() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let file = |name: &str, action: &str, word: &str| {
        format!(
            "apiVersion: sealer.io/v1\nkind: Plugin\nmetadata:\n  name: {name}\nspec:\n  type: SHELL\n  action: {action}\n  \
             data: |\n    if true; then\n      echo {word} $HostIP >>{LOG}\n    fi\n"
        )
    };
    ImageTree::at(&operator.desk().join("image"))
        .unwrap()
        .script("init.sh", &note("init"))
        .unwrap()
        .file("plugins/early.yaml", file("early", "pre-init-host", "early"))
        .unwrap()
        .file("plugins/clean.yaml", file("clean", "PostClean", "clean"))
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    let clusterfile = operator.clusterfile("demo:v1", &[host]).unwrap();
    let plan = operator.gantry("plan -f Clusterfile").unwrap();
    assert!(
        plan.all_output()
            .contains("plugin early comes from plugins/early.yaml of image demo:v1"),
        "{plan}"
    );
    operator.apply().unwrap().ok().unwrap();
    let early = format!("early {}", host.address());
    assert_eq!(story(host).unwrap(), [early.as_str(), "init"]);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    // The file's own counts, and needs the host's leave.
    let text = std::fs::read_to_string(operator.desk().join(clusterfile)).unwrap();
    operator
        .put(
            clusterfile,
            text.clone() + &plugin("early", "PreInit", "", &note("own")),
        )
        .unwrap();
    let refused = operator.gantry("apply -f Clusterfile -y").unwrap();
    assert_eq!(refused.status, Some(3), "{refused}");
    operator.put(clusterfile, text).unwrap();

    // A file that was changed on the host proves nothing.
    let on_host = "/var/lib/gantry/data/demo/rootfs/plugins/clean.yaml";
    host.must(&format!(
        "cp {on_host} /root/clean.yaml && echo '    rm -rf /tmp' >>{on_host}"
    ))
    .unwrap();
    let failed = operator.gantry("reset -f Clusterfile -y").unwrap();
    assert!(
        failed
            .all_output()
            .contains("plugins/clean.yaml on this host is not the image's file"),
        "{failed}"
    );
    host.must(&format!("cp /root/clean.yaml {on_host}")).unwrap();
    operator.must("reset -f Clusterfile -y").unwrap();
    assert_eq!(
        story(host).unwrap().last().unwrap(),
        &format!("clean {}", host.address())
    );
}

#[test]
fn commands_for_upgrades_and_rollbacks_run_on_the_way_there_and_back() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let hosts @ [one, two] = [bed.host(1), bed.host(2)];
    for version in ["v1", "v2"] {
        ImageTree::at(&operator.desk().join(version))
            .unwrap()
            .script("init.sh", &note(version))
            .unwrap();
        operator
            .must(&format!("build -t demo:{version} {version}"))
            .unwrap();
    }
    let documents = plugin("host", "upgrade-host", "", &note("host"))
        + &plugin("up", "upgrade", "", &note("up"))
        + &plugin("down", "rollback", "", &note("down"));
    clusterfile(operator, hosts, &documents).unwrap();
    for host in hosts {
        allow_exec(host, true).unwrap();
    }
    operator.apply().unwrap().ok().unwrap();
    assert_eq!(story(one).unwrap(), ["v1"]);

    let text = std::fs::read_to_string(operator.desk().join("Clusterfile")).unwrap();
    operator
        .put("Clusterfile", text.replace("demo:v1", "demo:v2"))
        .unwrap();
    operator.apply().unwrap().ok().unwrap();
    assert_eq!(story(one).unwrap(), ["v1", "host", "v2", "up"]);
    assert_eq!(story(two).unwrap(), ["v1", "host", "v2"]);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);

    operator.must("rollback -y").unwrap();
    assert_eq!(story(one).unwrap()[4..], ["v1", "down"]);
    assert_eq!(story(two).unwrap()[3..], ["v1"]);
    assert_eq!(operator.apply().unwrap().ok().unwrap().steps(), 0);
}
