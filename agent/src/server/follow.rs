//! A running step as events on a stream, until it ends. The peer sets the pace: what it does not take waits in files.

use std::time::Duration;

use gantry_protocol::{CloseCode, StepEvent};
use gantry_transport::{SendStream, StreamError};
use tokio::time::{MissedTickBehavior, interval};

use crate::executor::StepWatch;
use crate::scripts::{OutputLine, StepOutput};

/// How often the files of a running script are looked at.
const LOOK_AT_OUTPUT: Duration = Duration::from_millis(100);

/// Sends `Started`, then progress and output as they come, then `Finished`. Output comes from its beginning.
///
/// When the agent stops and the step goes on, the stream is reset instead.
pub(super) async fn follow(
    mut step: StepWatch,
    mut output: Option<StepOutput>,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    send.send(&StepEvent::Started).await?;
    let mut look = interval(LOOK_AT_OUTPUT);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = step.progress.clone();
    let mut progress_ended = false;
    let outcome = loop {
        tokio::select! {
            ended = step.ended() => break ended,
            changed = progress.changed(), if !progress_ended => match changed {
                Ok(()) => {
                    let progress = *progress.borrow_and_update();
                    send.send(&StepEvent::Progress(progress)).await?;
                }
                Err(_) => progress_ended = true,
            },
            _ = look.tick(), if output.is_some() => {
                if let Some(output) = &mut output {
                    send_output(output, send).await?;
                }
            }
        }
    };
    let Some(outcome) = outcome else {
        send.reset(CloseCode::ShuttingDown);
        return Ok(());
    };
    if let Some(output) = &mut output {
        send_output(output, send).await?;
        send_rest(output, send).await?;
    }
    send.send(&StepEvent::Finished(outcome)).await
}

/// Sends the lines that are there now.
pub(super) async fn send_output(output: &mut StepOutput, send: &mut SendStream) -> Result<(), StreamError> {
    loop {
        let lines = output.next_lines().unwrap_or_else(|error| {
            tracing::warn!("a step's output cannot be read: {error}");
            Vec::new()
        });
        if lines.is_empty() {
            return Ok(());
        }
        for line in lines {
            send_line(line, send).await?;
        }
    }
}

/// Sends what is left without a newline.
pub(super) async fn send_rest(output: &mut StepOutput, send: &mut SendStream) -> Result<(), StreamError> {
    for line in output.last_lines() {
        send_line(line, send).await?;
    }
    Ok(())
}

async fn send_line(
    OutputLine { stderr, line }: OutputLine,
    send: &mut SendStream,
) -> Result<(), StreamError> {
    send.send(&StepEvent::Output { stderr, line }).await
}
