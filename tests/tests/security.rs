//! Mutual TLS and tokens between real processes: such a run ends with the bits of an open one, and whoever is turned away
//! says why in its last line.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
use esta_tests::{
    Certificates, Lab, Outcome, Process, Run, backends::free_address, binary, collector::Collector, deadline, http::get,
};

/// `printf %s secret | sha256sum`.
const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

#[test]
fn a_run_over_mutual_tls_ends_with_the_same_bits_and_strangers_are_told_why() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let open = Run::start(&lab, &lab.write_job("open", "", 40)?, 1)?.finish()?;
    let job = lab.write_job("sealed", "", 40)?;
    let certificates = Certificates::write(lab.path())?;
    fs::write(lab.path().join("tokens"), format!("gpu-* worker {SECRET}\n"))?;
    fs::write(lab.path().join("good.token"), "secret\n")?;
    fs::write(lab.path().join("bad.token"), "guess\n")?;
    let path = |file: &str| lab.path().join(file).to_string_lossy().into_owned();
    let (ca, cert, key) = (path("ca.pem"), path("both.pem"), path("both.key"));

    let (config, tokens, sealed) = (job.to_string_lossy(), path("tokens"), certificates.server_args());
    let serve = ["serve", "--config", &config, "--listen", "127.0.0.1:0", "--tokens", &tokens];
    let serve = [&serve[..], &sealed.each_ref().map(String::as_str)].concat();
    let mut coordinator = Process::start(lab.path(), "sealed-coordinator", "esta-coordinator", &serve)?;
    let url = deadline("the coordinator to listen", || {
        coordinator.out().lines().next()?.strip_prefix("listening on ").map(str::to_owned)
    })?;
    anyhow::ensure!(url.starts_with("https://"), "{url}");

    let certified = ["--tls-cert", &cert, "--tls-key", &key];
    let worker = |name: &str, token: &str, more: &[&str]| {
        let token = path(token);
        let args = ["train", "--coordinator", &url, "--host", "127.0.0.1", "--name", name, "--tls-ca", &ca];
        let args = [&args[..], &["--token-file", &token], more].concat();
        Process::start(lab.path(), &format!("sealed-{name}"), "esta-worker", &args)
    };
    let line = worker("gpu-0", "bad.token", &certified)?.fails_with(11)?;
    assert!(line.ends_with("refused to join: the token is not one that this coordinator knows"), "{line}");
    let line = worker("cpu-0", "good.token", &certified)?.fails_with(11)?;
    assert!(line.ends_with("gpu-* may not be the worker \"cpu-0\": it may be called gpu-*"), "{line}");
    let line = worker("bare", "good.token", &[])?.fails_with(11)?;
    assert!(line.ends_with("it asks for a certificate; give --tls-cert and --tls-key"), "{line}");
    let plain = url.replace("https://", "http://");
    let args = ["train", "--coordinator", &plain, "--name", "plain"];
    let line = Process::start(lab.path(), "sealed-plain", "esta-worker", &args)?.fails_with(11)?;
    assert!(line.ends_with(&format!("{plain} speaks TLS: write https:// instead of http://")), "{line}");

    let mut trains = worker("gpu-1", "good.token", &certified)?;
    anyhow::ensure!(coordinator.wait()?.success(), "{}", coordinator.log());
    anyhow::ensure!(trains.wait()?.success(), "{}", trains.log());
    let dir: PathBuf = job.with_extension("");
    assert!(open == Outcome::read(&dir)?, "the run over TLS ended with other bits");
    Ok(())
}

/// What nobody may read who only looks: whatever it is made of stands in none of what is shown.
#[test]
fn nothing_that_is_shown_tells_a_secret() -> anyhow::Result<()> {
    const TOKEN: &str = "tok-4be1c07d9a";
    let lab = Lab::new()?;
    let job = lab.write_job("shown", "sampling: {slots: 4}\n", 60_000)?;
    let certificates = Certificates::write(lab.path())?;
    let hash = Command::new("sh").args(["-c", &format!("printf %s {TOKEN} | sha256sum")]).output()?;
    let hash = String::from_utf8(hash.stdout)?.split(' ').next().unwrap_or_default().to_owned();
    fs::write(lab.path().join("tokens"), format!("gpu-* worker {hash}\nwatcher viewer {SECRET}\n"))?;
    fs::write(lab.path().join("own.token"), TOKEN)?;
    fs::write(lab.path().join("viewer.token"), "secret")?;
    let key = fs::read_to_string(&certificates.key)?;
    let key_line = key.lines().nth(1).context("a key in PEM has lines")?.to_owned();
    let collector = Collector::start()?;
    let secrets = [
        ("AWS_SECRET_ACCESS_KEY", "aws-77c0ffee41"),
        ("HF_TOKEN", "hf_9d02e1aa55"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=otlp-31415926"),
    ];
    let with_secrets = |command: &mut Command| {
        command
            .envs(secrets)
            .envs(collector.environment())
            .env("RUST_LOG", "info,esta_coordinator=debug,esta_worker=debug");
    };
    let path = |file: &str| lab.path().join(file).to_string_lossy().into_owned();
    let (page, worker_page, tokens) = (free_address()?, free_address()?, path("tokens"));
    let mut serve = Command::new(binary("esta-coordinator"));
    serve.args(["serve", "--config", &job.to_string_lossy(), "--listen", "127.0.0.1:0", "--http", &page]);
    serve.args(["--tokens", &tokens]).args(certificates.server_args());
    with_secrets(&mut serve);
    let mut coordinator = Process::spawn(lab.path(), "shown-coordinator", &mut serve)?;
    let url = deadline("the coordinator to listen", || {
        coordinator.out().lines().next()?.strip_prefix("listening on ").map(str::to_owned)
    })?;
    let (ca, cert, own) = (path("ca.pem"), path("both.pem"), path("both.key"));
    let sealed = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &own, "--token-file"];
    let mut train = Command::new(binary("esta-worker"));
    train.args(["train", "--coordinator", &url, "--host", "127.0.0.1", "--name", "gpu-0", "--http", &worker_page]);
    with_secrets(train.args(sealed).arg(path("own.token")));
    let mut worker = Process::spawn(lab.path(), "shown-worker", &mut train)?;
    let committed = || {
        let state: serde_json::Value = serde_json::from_str(&get(&page, "/api/state").ok()?.1).ok()?;
        state["progress"]["committed"].as_u64().filter(|steps| *steps > 5)
    };
    deadline("some steps", committed)?;

    let mut shown = vec![
        ("the page", get(&page, "/")?.1),
        ("the state", get(&page, "/api/state")?.1),
        ("the coordinator's metrics", get(&page, "/metrics")?.1),
        ("the worker's metrics", get(&worker_page, "/metrics")?.1),
    ];
    let status = Command::new(binary("esta-coordinator"))
        .args(["status", "--coordinator", &url, "--format", "json"])
        .args(sealed)
        .arg(path("viewer.token"))
        .output()?;
    ensure!(status.status.success(), "{status:?}");
    shown.push(("the status", String::from_utf8(status.stdout)?));
    coordinator.signal("TERM")?;
    coordinator.wait()?;
    worker.kill();
    let spans = collector.spans();
    ensure!(!spans.is_empty(), "nothing was traced");
    shown.push(("the spans", format!("{spans:?}")));
    shown.push(("the coordinator's log", coordinator.log()));
    shown.push(("the worker's log", worker.log()));
    for (what, text) in &shown {
        assert!(!text.is_empty(), "{what} is empty");
        let secrets = secrets.iter().map(|(_, value)| value.trim_start_matches("authorization="));
        for secret in secrets.chain([TOKEN, &hash, SECRET, &key_line]) {
            assert!(!text.contains(secret), "{what} tells {secret}");
        }
    }
    Ok(())
}
