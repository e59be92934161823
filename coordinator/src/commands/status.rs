//! `status` (HANDS): how a live run goes, for people or for programs.

use clap::Args;
use esta_client::Client;
use esta_proto::v1::StatusRequest;
use serde_json::Value;

use super::{
    Format,
    live::{Answer, Patience, Server, unintelligible},
    outcome::{UNKNOWN, columns},
    say,
};
use crate::failure::Failure;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    server: Server,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn status(args: &StatusArgs) -> Result<(), Failure> {
    let call = |mut client: Client| async move { client.status(StatusRequest {}).await };
    let Answer { url, body } = args.server.ask(Patience::Short, call, |_| None).await?;
    let mut status: Value = serde_json::from_str(&body.json).map_err(|error| unintelligible(&url, &error))?;
    status["leader"] = url.into();
    say(&match args.format {
        Format::Json => format!("{status:#}"),
        Format::Table => page(&status),
    })
}

/// A few lines, and one for each worker.
fn page(status: &Value) -> String {
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => UNKNOWN.to_owned(),
        other => other.to_string(),
    };
    let of = |key: &str| word(&status[key]);
    let mut lines = vec![
        format!("job {}, run {}: {}", of("job"), of("run"), of("phase")),
        match status["epoch"].is_null() {
            // A run that is over is led by nobody; whoever led it last answers.
            true => format!("answered by {}", of("leader")),
            false => format!("led by {}, epoch {}, generation {}", of("leader"), of("epoch"), of("generation")),
        },
        format!(
            "{} of {} steps durable, {} committed before them on their way",
            of("durable_steps"),
            of("total_steps"),
            of("lag_steps")
        ),
    ];
    lines.extend(status["failed"].as_str().map(|reason| format!("it failed: {reason}")));
    let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if workers.is_empty() {
        lines.push("no workers".to_owned());
        return lines.join("\n");
    }
    let row = |worker: &Value| {
        let pace = worker["slowness"].as_f64().map_or_else(|| UNKNOWN.to_owned(), |slowness| format!("{slowness:.2}"));
        let (doing, step) = (&worker["doing"], &worker["step"]);
        let doing = if step.is_null() { word(doing) } else { format!("{} {}", word(doing), word(step)) };
        [word(&worker["name"]), word(&worker["rank"]), word(&worker["applied"]), state(worker).to_owned(), doing, pace]
            .to_vec()
    };
    let titles = ["worker", "rank", "applied", "state", "doing", "time / expected"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(titles).chain(workers.iter().map(row)).collect();
    lines.push(columns(&rows));
    lines.join("\n")
}

/// What a worker is at, the most remarkable first.
fn state(worker: &Value) -> &'static str {
    let is = |key: &str| worker[key] == true;
    match () {
        () if is("draining") => "draining",
        () if is("straggler") => "straggler",
        () if is("ready") => "ready",
        () if worker["rank"].is_null() => "waiting",
        () => "forming",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_a_few_lines_and_one_for_each_worker() {
        let worker = |name: &str, more: Value| {
            let mut worker = json!({"name": name, "rank": 0, "applied": 41, "ready": true, "draining": false,
                "straggler": false, "slowness": null, "doing": "idle", "step": null});
            worker.as_object_mut().expect("it is one").extend(more.as_object().expect("it is one").clone());
            worker
        };
        let status = json!({
            "job": "j", "run": "r", "phase": "running", "leader": "http://h:1", "epoch": 3, "generation": 5,
            "durable_steps": 40, "lag_steps": 1, "total_steps": 90,
            "workers": [worker("w0", json!({"slowness": 0.98, "doing": "reduce", "step": 41})),
                worker("w1", json!({"straggler": true, "slowness": 5.0, "doing": "compute", "step": 41})),
                worker("w2", json!({"rank": null, "ready": false}))],
        });
        assert_eq!(
            page(&status),
            "job j, run r: running\nled by http://h:1, epoch 3, generation 5\n\
             40 of 90 steps durable, 1 committed before them on their way\n\
             worker  rank  applied  state      doing       time / expected\n\
             w0         0       41  ready      reduce 41              0.98\n\
             w1         0       41  straggler  compute 41             5.00\n\
             w2         -       41  waiting    idle                      -\n"
        );
        let nobody = json!({"job": "j", "leader": "http://h:1", "workers": []});
        let told = page(&nobody);
        assert!(told.contains("answered by http://h:1") && told.ends_with("no workers"), "{told}");
    }
}
