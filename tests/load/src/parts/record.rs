//! What it takes to make a step durable (HANDS): as the coordinator itself counts it, in a file and on etcd.

use std::time::{Duration, Instant};

use esta_tests::EtcdServer;
use tempfile::TempDir;

use super::{Bench, Stage, row, section};
use crate::{Cast, Family, Job};

const STEPS: u64 = 1_000;
/// What a step takes: longer than a write, so that each has one of its own.
const STEP: Duration = Duration::from_millis(10);

/// D1.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    section("Durable record of a step, four slots, steps of 10 ms, one plan ahead");
    run(bench, "redb", tempfile::tempdir()?, &[]).await?;
    let folder = tempfile::tempdir()?;
    match EtcdServer::start(folder.path()) {
        Ok(etcd) => {
            let store = etcd.store("load");
            run(bench, "etcd, one member", folder, &["--store", &store]).await
        }
        Err(why) => {
            row("etcd: not measured", &why.to_string(), "", "", "");
            Ok(())
        }
    }
}

async fn run(bench: &Bench, name: &str, folder: TempDir, more: &[&str]) -> anyhow::Result<()> {
    let job = Job { family: Family::Vit, slots: 4, steps: STEPS, lookahead: 1 };
    let Stage { served, mut crowd, _folder, .. } = bench.stage_in(folder, job, &Cast::of(1), more).await?;
    let mut told = serde_json::Value::Null;
    while let Some((step, _)) = crowd.ready().await? {
        let over = Instant::now() + STEP;
        if step.0 + 1 == STEPS {
            told = served.status().await?["record"].take();
        }
        crowd.listen_while(tokio::time::sleep_until(over.into())).await?;
        crowd.finish()?;
    }
    served.finish().await?;
    let number = |key: &str| told[key].as_f64().unwrap_or(f64::NAN);
    for (key, quantile) in [("p50_us", "p50"), ("p99_us", "p99")] {
        row(&format!("{name}: a write, {quantile}"), &format!("{:.1} ms", number(key) / 1e3), "", "", "");
    }
    row(&format!("{name}: writes of a step"), &format!("{:.3}", number("writes") / number("steps")), "", "", "<= 1");
    Ok(())
}
