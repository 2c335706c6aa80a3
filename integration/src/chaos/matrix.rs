//! All cases of a scenario, and samples of them.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::case::Case;
use super::fault::Fault;
use super::scenario::{Act, Scenario};

/// Every fault at every step of `acts`. Does each act once, undisturbed, to see its steps.
///
/// # Errors
/// When an act fails although nothing disturbs it.
pub fn cases(scenario: Scenario, acts: &[Act]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for &act in acts {
        for (host, step) in Case::steps_of(scenario, act)? {
            let faults = Fault::ALL
                .into_iter()
                .filter(|fault| fault.fits(step.runs_a_program));
            cases.extend(faults.map(|fault| Case {
                scenario,
                act,
                host,
                step: step.title.clone(),
                fault,
                runs_a_program: step.runs_a_program,
            }));
        }
    }
    Ok(cases)
}

/// What samples are drawn by: `$GANTRY_CHAOS_SEED`, or the days since 1970, so that everybody draws the same on a day.
#[must_use]
pub fn seed() -> u64 {
    let told = env::var("GANTRY_CHAOS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let day = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs() / 86_400)
    };
    told.unwrap_or_else(day)
}

/// `count` of `cases`, drawn without repetition; the same for the same `seed` (Fisher-Yates with splitmix64).
#[must_use]
pub fn sample<T>(mut cases: Vec<T>, count: usize, seed: u64) -> Vec<T> {
    let mut state = seed;
    let mut random = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    for at in (1..cases.len()).rev() {
        // The remainder is below the length of a list.
        cases.swap(at, (random() % (at as u64 + 1)) as usize);
    }
    cases.truncate(count);
    cases
}
