//! Mutual TLS and tokens between real processes: such a run ends with the bits of an open one, and whoever is turned away
//! says why in its last line.

use std::{fs, path::PathBuf};

use esta_tests::{Certificates, Lab, Outcome, Process, Run, deadline};

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
