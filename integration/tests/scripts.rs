//! Scripts outlive the agent, and say why they fail.

use std::time::Duration;

use gantry_integration::{Applied, ImageTree, Testbed, applied::events, image_tree::note, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_agent_restarts_during_a_script_and_the_script_runs_once() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    // It goes on when the test says so; the sleep only keeps a waiting script from using up a core.
    let wait = "echo waiting\nuntil [ -e /root/go ]; do sleep 0.1; done\necho went on\n";
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image
        .script("init.sh", &format!("{}{wait}", note("init.sh")))
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();

    let apply = operator.start_apply().unwrap();
    wait_until("the script waits", LIMIT, || {
        Ok(host.run("cat /var/log/scripts")?.succeeded().then_some(()))
    })
    .unwrap();
    host.kill_agent().unwrap();
    host.must("systemctl restart gantry-agent").unwrap();
    wait_until("apply has attached to the script again", LIMIT, || {
        let starts = events(&apply.printed()?)
            .iter()
            .filter(|e| e["event"] == "started" && e["title"] == "init.sh")
            .count();
        Ok((starts > 1).then_some(()))
    })
    .unwrap();
    host.must("touch /root/go").unwrap();
    let applied = Applied::read(apply.finish(LIMIT).unwrap()).ok().unwrap();

    assert_eq!(
        host.must("grep --count init.sh /var/log/scripts").unwrap().trim(),
        "1"
    );
    assert!(
        applied.finished.stdout.contains("went on"),
        "what the script wrote later is not shown: {}",
        applied.finished
    );
    let again = operator.apply().unwrap().ok().unwrap();
    assert_eq!(again.steps(), 0, "{}", again.finished);
}

#[test]
fn gantry_is_killed_during_a_script_and_apply_attaches_to_it() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    let wait = "until [ -e /root/go ]; do sleep 0.1; done\n";
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image
        .script("init.sh", &format!("{}{wait}", note("init.sh")))
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();

    let apply = operator.start_apply().unwrap();
    wait_until("the script waits", LIMIT, || {
        Ok(host.run("cat /var/log/scripts")?.succeeded().then_some(()))
    })
    .unwrap();
    apply.kill().unwrap();
    let apply = operator.start_apply().unwrap();
    wait_until("the second apply attached to it", LIMIT, || {
        Ok(apply.printed()?.contains("init.sh").then_some(()))
    })
    .unwrap();
    host.must("touch /root/go").unwrap();
    Applied::read(apply.finish(LIMIT).unwrap()).ok().unwrap();
    assert_eq!(
        host.must("grep --count init.sh /var/log/scripts").unwrap().trim(),
        "1"
    );
}

#[test]
fn a_failing_script_is_named_with_its_last_words_and_runs_again_once_it_is_mended() {
    let bed = Testbed::enrolled(2).unwrap();
    let operator = bed.operator();
    let check = "echo looking for a disk\n[ -e /root/disk ] || { echo 'no disk for docker' >&2; exit 17; }\n";
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image
        .script("init.sh", &format!("{}{check}", note("init.sh")))
        .unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator
        .clusterfile("demo:v1", &[bed.host(1), bed.host(2)])
        .unwrap();
    bed.host(2).must("touch /root/disk").unwrap();

    let failed = operator.gantry("apply -f Clusterfile -y").unwrap();
    assert_eq!(failed.status, Some(4), "{failed}");
    for words in [
        "init.sh failed on",
        "exit status 17",
        "its file: scripts/init.sh of image demo:v1",
        "no disk for docker",
        &bed.host(1).address().to_string(),
        "gantry logs",
    ] {
        assert!(
            failed.all_output().contains(words),
            "{words:?} is not said: {failed}"
        );
    }

    bed.host(1).must("touch /root/disk").unwrap();
    operator.apply().unwrap().ok().unwrap();
    assert_eq!(
        bed.host(1)
            .must("grep --count init.sh /var/log/scripts")
            .unwrap()
            .trim(),
        "2"
    );
    assert_eq!(
        bed.host(2)
            .must("grep --count init.sh /var/log/scripts")
            .unwrap()
            .trim(),
        "1"
    );
}

#[test]
fn a_script_that_never_stops_talking_does_not_fill_the_disk() {
    let bed = Testbed::enrolled(1).unwrap();
    let (operator, host) = (bed.operator(), bed.host(1));
    // 200 MB on each stream, then the words that matter.
    let chatter = "echo begins\nyes 'the same line again and again' | head -c 200000000\n\
                   yes 'and on the other stream' | head -c 200000000 >&2\necho ends\n";
    let image = ImageTree::with_scripts(&operator.desk().join("image")).unwrap();
    image.script("init.sh", chatter).unwrap();
    operator.must("build -t demo:v1 image").unwrap();
    operator.clusterfile("demo:v1", &[host]).unwrap();
    operator.apply().unwrap().ok().unwrap();

    let kept: u64 = host
        .must("du --summarize --block-size=1M /var/lib/gantry/agent/steps | cut -f 1")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(kept < 64, "{kept} MiB of output are kept");
    let log = operator
        .must(&format!("logs {} init.sh", host.address()))
        .unwrap();
    assert!(log.contains("begins") && log.contains("ends"));
    assert!(log.contains("bytes between them are gone"));
}
