//! One JSON object per line on standard output. Fields are added, never renamed or removed.

use gantry_model::StepOutcome;
use gantry_system::clock::now_ms;
use serde_json::{Map, Value, json};

use super::Report;
use crate::execute::{EventKind, RunEvent, RunOutcome};
use crate::output::print;

/// NDJSON on standard output.
pub struct Json;

impl Report for Json {
    fn event(&mut self, event: &RunEvent) -> anyhow::Result<()> {
        line(object(event))
    }
}

/// The last line: what became of the hosts.
///
/// # Errors
/// When standard output cannot be written.
pub fn end(outcome: &RunOutcome) -> anyhow::Result<()> {
    let host = |(address, host): (&std::net::IpAddr, &crate::execute::HostOutcome)| {
        let failure = host.failure.as_ref().map(
            |failure| json!({ "step": failure.step.to_string(), "title": failure.title, "reason": failure.reason() }),
        );
        json!({
            "host": address,
            "done": host.done,
            "alreadyDone": host.already_done,
            "receivedBytes": host.received,
            "failure": failure,
        })
    };
    let hosts: Vec<Value> = outcome.hosts.iter().map(host).collect();
    line(json!({ "event": "ended", "exitCode": outcome.exit_code() as u8, "hosts": hosts }))
}

fn line(mut value: Value) -> anyhow::Result<()> {
    value["timeMs"] = now_ms().into();
    print(&format!("{value}\n"))
}

fn object(event: &RunEvent) -> Value {
    let mut value = match &event.kind {
        EventKind::WaveStarted { title, hosts } => {
            json!({ "event": "wave-started", "wave": title, "hosts": hosts })
        }
        EventKind::Started => json!({ "event": "started" }),
        EventKind::AlreadyDone => json!({ "event": "already-done" }),
        EventKind::Progress(progress) => json!({
            "event": "progress",
            "wantedBytes": progress.wanted,
            "receivedBytes": progress.received,
            "reusedBytes": progress.reused,
            "writtenBytes": progress.written,
            "totalBytes": progress.total,
        }),
        EventKind::Output { stderr, line } => json!({
            "event": "output",
            "stream": if *stderr { "stderr" } else { "stdout" },
            "line": String::from_utf8_lossy(line),
        }),
        EventKind::Waiting { reason, again_in } => {
            json!({ "event": "waiting", "reason": reason, "againInMs": again_in.as_millis() as u64 })
        }
        EventKind::Finished(outcome) => finished(outcome),
        EventKind::ReadingLayer {
            layer,
            number,
            of,
            bytes,
        } => json!({
            "event": "reading-layer",
            "layer": layer,
            "number": number,
            "of": of,
            "bytes": bytes,
        }),
        EventKind::GaveUp(reason) => json!({ "event": "gave-up", "reason": reason }),
    };
    if let (Some((host, step, title)), Value::Object(fields)) = (&event.at, &mut value) {
        let mut place = Map::new();
        place.insert("host".into(), json!(host));
        place.insert("step".into(), json!(step.to_string()));
        place.insert("title".into(), json!(title));
        place.append(fields);
        *fields = place;
    }
    value
}

fn finished(outcome: &StepOutcome) -> Value {
    json!({ "event": "finished", "succeeded": outcome.succeeded(), "outcome": outcome.to_string() })
}
