//! A plan as text. Hosts that do the same for the same reason share a line, so a plan for a hundred hosts is as
//! long as one for three.

use super::{Mark, Plan, Purpose, Wave};

/// Hosts named on one line; more are counted.
const MAX_HOSTS_ON_A_LINE: usize = 6;

/// The plan for people: waves, steps with their marks, a summary.
#[must_use]
pub fn render(plan: &Plan) -> String {
    let bold = anstyle::Style::new().bold();
    let what = match (&plan.purpose, &plan.image) {
        (Purpose::Apply, Some(image)) => format!("{} ({})", image.reference, image.digest.short()),
        (Purpose::Apply, None) => "no image".into(),
        (Purpose::Reset, _) => "taken down".into(),
        (Purpose::Renew, _) => "new certificates".into(),
        (Purpose::ReplaceCa, _) => "another CA".into(),
        (Purpose::Restore, _) => "back to a snapshot of etcd".into(),
    };
    let count = plan.hosts.len() - plan.skipped().count();
    let hosts = if count == 1 {
        "1 host".into()
    } else {
        format!("{count} hosts")
    };
    let mut text = format!("{bold}{}{bold:#}: {what} on {hosts}\n", plan.cluster);
    if let Some(skipped) = skipped(plan) {
        text.push_str(&format!(
            "without {skipped}, which {} not answer\n",
            if plan.skipped().count() == 1 { "does" } else { "do" }
        ));
    }
    for (index, wave) in plan.waves.iter().enumerate() {
        text.push_str(&format!("\n{bold}{} {}{bold:#}\n", index + 1, wave.title));
        text.push_str(&render_wave(wave, count));
    }
    let (to_do, done) = (plan.to_do(), plan.steps().count() - plan.to_do());
    text.push_str(&match to_do {
        0 => "\nNothing to do.\n".to_owned(),
        1 if done == 0 => "\n1 step to do.\n".to_owned(),
        _ if done == 0 => format!("\n{to_do} steps to do.\n"),
        _ => format!("\n{to_do} to do, {done} done already.\n"),
    });
    text
}

/// The hosts that `plan` goes on without, if there are some.
#[must_use]
pub fn skipped(plan: &Plan) -> Option<String> {
    let skipped: Vec<String> = plan.skipped().map(|host| host.address.to_string()).collect();
    (!skipped.is_empty()).then(|| host_list(&skipped))
}

/// Hosts as `10.0.0.2, 10.0.0.3 and 98 more`.
#[must_use]
pub fn host_list(hosts: &[String]) -> String {
    match hosts.split_at_checked(MAX_HOSTS_ON_A_LINE) {
        Some((shown, more)) if more.len() > 1 => format!("{} and {} more", shown.join(", "), more.len()),
        _ => hosts.join(", "),
    }
}

fn render_wave(wave: &Wave, all: usize) -> String {
    let mut lines: Vec<(Mark, &str, &str, Vec<String>)> = Vec::new();
    for step in &wave.steps {
        let line = lines.iter_mut().find(|(mark, title, reason, _)| {
            (*mark, *title, *reason) == (step.mark, &step.title, &step.reason)
        });
        match line {
            Some((.., hosts)) => hosts.push(step.host.to_string()),
            None => lines.push((step.mark, &step.title, &step.reason, vec![step.host.to_string()])),
        }
    }
    let width = lines.iter().map(|(_, title, ..)| title.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (mark, title, reason, hosts) in lines {
        let style = style(mark);
        let hosts = match hosts.len() {
            count if count == all && all > 1 => format!("all {all} hosts"),
            _ => host_list(&hosts),
        };
        let sign = mark.sign();
        text.push_str(&format!(
            "  {style}{sign} {title:<width$}{style:#}  {hosts}: {reason}\n"
        ));
    }
    text
}

const fn style(mark: Mark) -> anstyle::Style {
    match mark {
        Mark::Add => anstyle::AnsiColor::Green.on_default(),
        Mark::Change => anstyle::AnsiColor::Yellow.on_default(),
        Mark::Remove => anstyle::AnsiColor::Red.on_default(),
        Mark::Done => anstyle::Style::new().dimmed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hosts_are_counted_and_one_more_is_named() {
        let hosts: Vec<String> = (0..9).map(|n| format!("h{n}")).collect();
        assert_eq!(host_list(&hosts), "h0, h1, h2, h3, h4, h5 and 3 more");
        assert_eq!(host_list(&hosts[..7]), "h0, h1, h2, h3, h4, h5, h6");
    }
}
