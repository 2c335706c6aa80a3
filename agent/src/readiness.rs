//! Waits for what a control plane's host has a minute after it booted, long after its agent: etcd and the API server.

use std::fmt::Display;
use std::time::Duration;

use gantry_model::ClusterName;
use tokio::time::{Instant, sleep};

/// How long one of them is waited for. Of a host that boots, kubelet and etcd come first, then the API server.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ends once `ask` is answered by `service` of `cluster`. It ends, too, when there is no answer for three minutes: who asks the
/// service then is told why not.
pub(crate) async fn wait_for<E, Answer>(service: &str, cluster: &ClusterName, ask: impl Fn() -> Answer)
where
    E: Display,
    Answer: Future<Output = Result<(), E>>,
{
    let deadline = Instant::now() + LIMIT;
    let mut said = false;
    while let Err(error) = ask().await {
        if Instant::now() >= deadline {
            return;
        }
        if !said {
            tracing::info!(%cluster, "waits for {service}: {error}");
            said = true;
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use super::*;

    fn cluster() -> ClusterName {
        "prod".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_until_it_answers() {
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            ready(if asked.get() < 3 {
                Err("connection refused")
            } else {
                Ok(())
            })
        };
        wait_for("etcd", &cluster(), ask).await;
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_answers_is_given_up_after_the_limit() {
        let began = Instant::now();
        wait_for("etcd", &cluster(), || ready(Err("connection refused"))).await;
        assert_eq!(began.elapsed(), LIMIT);
    }
}
