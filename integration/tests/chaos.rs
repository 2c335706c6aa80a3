//! A few of the faults that `make chaos` goes through: others every day, the same ones all day.

use anyhow::Context as _;
use gantry_integration::chaos::{self, Act, Faults, Life, Scenario};

/// How many are drawn.
const SAMPLE: usize = 6;

#[test]
fn the_same_command_again_gets_to_the_same_end_whatever_happened_meanwhile() {
    let seed = chaos::seed();
    println!("seed {seed}; GANTRY_CHAOS_SEED={seed} draws the same cases again");
    let scenario = Scenario::Scripts;
    for case in chaos::sample(chaos::cases(scenario, scenario.acts()).unwrap(), SAMPLE, seed) {
        println!("{case}");
        case.run()
            .with_context(|| format!("`make chaos ARGS='{case}'` runs this case alone"))
            .unwrap();
    }
}

#[test]
fn a_kubernetes_cluster_gets_to_the_same_end_whatever_happened_meanwhile() {
    let seed = chaos::seed();
    // The others take longer than a change can wait for.
    let acts = chaos::sample(vec![Act::Create, Act::Leave, Act::Join], 1, seed);
    let again = format!(
        "make chaos ARGS='--kubernetes --life --seed {seed} drawn {}'",
        acts[0]
    );
    println!("`{again}` does the same again");
    let (scenario, faults) = (Scenario::Kubernetes, Faults::Drawn(seed));
    let struck = Life { scenario, faults }.run(&acts).context(again).unwrap();
    println!("{}", struck.steps.join("\n"));
}
