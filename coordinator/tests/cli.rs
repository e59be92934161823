//! The program itself: what it prints, how it fails, and a run led by a real process.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use esta_engine::{latency::Latency, law::Law};
use esta_sim::mutate::Mutator;
use serde_json::Value;
use support::*;
use tempfile::{TempDir, tempdir};

/// A folder with `job.yaml` for the job of [`law`], whose run goes into `run/`.
fn job() -> TempDir {
    let folder = tempdir().expect("a folder");
    let mut spec = law().spec.clone();
    spec.output_dir = Some(folder.path().join("run").display().to_string());
    let json = serde_json::to_string(&spec).expect("a job is JSON, and JSON is YAML");
    fs::write(folder.path().join("job.yaml"), json).expect("writes");
    folder
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esta-coordinator"));
    command.current_dir(folder).args(arguments).env_remove("RUST_LOG").env_remove("ESTA_COORDINATOR");
    command
}

/// A worker program that fails at once.
fn dying_worker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/dying-worker.sh")
}

fn call(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().expect("it runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The exit code and the one line on standard error.
fn failure(output: &Output) -> (i32, String) {
    let lines = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = lines.lines().filter(|line| line.starts_with("esta-coordinator: ")).collect();
    assert_eq!(said.len(), 1, "{lines}");
    (output.status.code().expect("it exits"), said[0].to_owned())
}

#[test]
fn the_catalog_is_an_array_in_order_of_ids() {
    let folder = job();
    let listed = call(folder.path(), &["catalog", "--config", "job.yaml", "--format", "json"]);
    let stitches: Vec<Value> = serde_json::from_str(&out(&listed)).expect("it is an array");
    assert_eq!(stitches.len(), law().catalog.stitches().count());
    let ids: Vec<u64> = stitches.iter().map(|stitch| stitch["id"].as_u64().expect("an id")).collect();
    assert!(ids.is_sorted());
    let keys: Vec<&String> = stitches[2].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["bin", "id", "macs", "params", "segments"]);
    assert_eq!(stitches[2]["segments"][0], serde_json::json!({"anchor": 0, "first": 0, "last": 0}));

    let table = out(&call(folder.path(), &["catalog", "--config", "job.yaml"]));
    assert_eq!(table.lines().count(), stitches.len() + 1);
    assert!(table.contains("a[0]>b[0-2]"), "{table}");
}

#[test]
fn every_kind_of_failure_has_its_line_and_its_code() {
    let folder = job();
    let at = |arguments: &[&str]| failure(&call(folder.path(), arguments));
    let (code, line) = at(&["config", "validate", "--config", "job.yaml", "--set", "train.lr_rate=1"]);
    assert_eq!(code, 3);
    assert!(line.contains("unknown key \"lr_rate\""), "{line}");
    let (code, line) = at(&["serve", "--config", "job.yaml", "--set", "timeouts.collective=1"]);
    let why = "timeouts.collective: 1 s is not longer than timeouts.phase of 200 s, which has to come first";
    assert!(code == 3 && line.contains(why), "{code}: {line}");
    let (code, line) = at(&["serve", "--config", "nowhere.yaml"]);
    assert_eq!((code, line.starts_with("esta-coordinator: cannot read nowhere.yaml: ")), (3, true), "{line}");
    let (code, line) = at(&["palette", "--run-dir", "nowhere"]);
    assert_eq!(code, 4, "{line}");
    let (code, line) = at(&["status", "--coordinator", "http://127.0.0.1:1"]);
    assert_eq!(code, 6);
    assert!(line.contains("http://127.0.0.1:1 does not answer"), "{line}");
    assert_eq!(call(folder.path(), &["serve"]).status.code(), Some(2), "a usage error");
}

#[test]
fn an_address_in_use_is_one_line() {
    let folder = job();
    let taken = std::net::TcpListener::bind(local()).expect("binds");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, line) = failure(&call(folder.path(), &["serve", "--config", "job.yaml", "--listen", &address]));
    assert_eq!((code, line), (6, format!("esta-coordinator: {address} is in use; choose another with --listen")));
}

#[test]
fn plain_text_beyond_this_machine_is_spoken_only_when_asked_for() {
    let folder = job();
    let serve = |more: &[&str]| call(folder.path(), &[&["serve", "--config", "job.yaml"], more].concat());
    for address in ["0.0.0.0:0", "[::]:0"] {
        let (code, line) = failure(&serve(&["--listen", address]));
        let expected = format!(
            "esta-coordinator: {address} is reached from other machines: give --tls-cert and --tls-key, or --plain-text \
             where nobody else can read or change what is said"
        );
        assert_eq!((code, line), (2, expected));
    }
    assert_eq!(serve(&["--tls-cert", "a.pem"]).status.code(), Some(2), "a certificate needs its key");
    assert_eq!(serve(&["--token-jwks", "k.json"]).status.code(), Some(2), "keys need an issuer, an audience, a role");
}

#[test]
fn files_of_certificates_and_tokens_that_cannot_be_used_are_named() {
    let folder = job();
    let refused = |more: &[&str]| failure(&call(folder.path(), more));
    let serve = ["serve", "--config", "job.yaml", "--listen", "127.0.0.1:0"];
    let (code, line) = refused(&[&serve[..], &["--tls-cert", "no.pem", "--tls-key", "no.key"]].concat());
    assert_eq!((code, line.starts_with("esta-coordinator: cannot read no.pem: ")), (8, true), "{line}");
    let (code, line) = refused(&[&serve[..], &["--tls-cert", "job.yaml", "--tls-key", "job.yaml"]].concat());
    assert_eq!((code, line.as_str()), (8, "esta-coordinator: job.yaml holds no certificate in PEM"));
    fs::write(folder.path().join("tokens"), "w worker\n").expect("writes");
    let (code, line) = refused(&[&serve[..], &["--tokens", "tokens"]].concat());
    let flaw = "esta-coordinator: tokens line 1: 2 words instead of a name, a role and the token's SHA-256";
    assert_eq!((code, line.as_str()), (8, flaw));

    let status = ["status", "--token-file", "tokens", "--coordinator"];
    let (code, line) = refused(&[&status[..], &["http://127.0.0.1:1"]].concat());
    assert_eq!((code, line.as_str()), (8, "esta-coordinator: tokens does not hold one token and nothing else"));
    let (code, line) = refused(&[&status[..], &["http://192.0.2.1:7700"]].concat());
    assert_eq!(code, 8);
    assert!(line.contains("http://192.0.2.1:7700 is plain text beyond this machine"), "{line}");
    let (code, line) = refused(&["status", "--coordinator", "https://127.0.0.1:1"]);
    assert_eq!((code, line.contains("needs --tls-ca")), (8, true), "{line}");
}

#[test]
fn an_operator_needs_a_token_where_one_is_asked_for() {
    let folder = job();
    let hash = ring::digest::digest(&ring::digest::SHA256, b"secret");
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.path().join("tokens"), format!("ops viewer {hex}\n")).expect("writes");
    fs::write(folder.path().join("token"), "secret\n").expect("writes");
    let (child, address) = serving(folder.path(), &["--tokens", "tokens"]);
    let url = format!("http://{address}");
    let status =
        |more: &[&str]| call(folder.path(), &[&["status", "--coordinator", &url, "--format", "json"], more].concat());
    let (code, line) = failure(&status(&[]));
    let expected = format!(
        "esta-coordinator: the coordinator at {url} refuses: this coordinator asks for a token, and none was sent; give \
         --token-file"
    );
    assert_eq!((code, line), (8, expected));
    let answer: Value = serde_json::from_str(&out(&status(&["--token-file", "token"]))).expect("an answer");
    assert_eq!(answer["phase"], "waiting");
    child.stopped();
}

#[test]
fn a_run_whose_workers_all_die_says_what_they_said_last() {
    let folder = job();
    let mut command = program(folder.path(), &["run", "--config", "job.yaml", "--workers", "2"]);
    let (code, line) = failure(&command.env("ESTA_WORKER", dying_worker()).output().expect("it runs"));
    assert_eq!(code, 7);
    assert!(line.contains("exited with code 8 (esta-worker: no weights in a)"), "{line}");
}

#[test]
fn a_worker_program_that_is_not_there_is_named() {
    let folder = job();
    let mut command = program(folder.path(), &["run", "--config", "job.yaml", "--workers", "1"]);
    let (code, line) = failure(&command.env("ESTA_WORKER", "/nowhere/esta-worker").output().expect("it runs"));
    assert_eq!(code, 1);
    assert!(line.contains("cannot start /nowhere/esta-worker"), "{line}");
}

#[test]
fn a_run_on_a_leash_ends_with_its_workers_when_its_parent_lets_go() {
    let folder = job();
    let worker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/lingering-worker.sh");
    let mut command = program(folder.path(), &["run", "--config", "job.yaml", "--workers", "1", "--leash"]);
    command.env("ESTA_WORKER", worker).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut guard = Serving(Some(command.spawn().expect("it starts")));
    let run = guard.0.as_mut().expect("it runs");
    let mut said = BufReader::new(run.stderr.take().expect("it is piped"));
    let (mut stderr, mut line) = (String::new(), String::new());
    let pid = loop {
        line.clear();
        assert!(said.read_line(&mut line).expect("it speaks") > 0, "the worker never said anything: {stderr}");
        stderr += &line;
        if let Some((_, after)) = line.split_once("lingering as ") {
            break after.chars().take_while(char::is_ascii_digit).collect::<String>();
        }
    };
    let process = Path::new("/proc").join(pid);
    assert!(process.exists(), "the worker lives while the leash is held");
    drop(run.stdin.take());
    said.read_to_string(&mut stderr).expect("it speaks");
    let status = run.wait().expect("it ends");
    let (code, line) = failure(&Output { status, stdout: Vec::new(), stderr: stderr.into_bytes() });
    assert_eq!((code, line.as_str()), (130, "esta-coordinator: interrupted; the same command resumes the run"));
    assert!(!process.exists(), "the worker was left behind");
}

/// A coordinator process. It ends with whoever holds it, however that ends.
struct Serving(Option<Child>);

impl Serving {
    /// SIGTERM, as an orchestrator sends it.
    fn terminate(&self) {
        let child = self.0.as_ref().expect("nobody has waited for it");
        let done = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill is there");
        assert!(done.success());
    }

    /// Its end, and all it said.
    fn ended(mut self) -> Output {
        let child = self.0.take().expect("nobody has waited for it");
        child.wait_with_output().expect("it ends")
    }

    /// Its end after a SIGTERM.
    fn stopped(self) -> Output {
        self.terminate();
        self.ended()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A coordinator process that has said where it listens.
fn serving(folder: &Path, more: &[&str]) -> (Serving, SocketAddr) {
    let mut command = program(folder, &["serve", "--config", "job.yaml", "--listen", "127.0.0.1:0"]);
    command.args(more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut serving = Serving(Some(child));
    let mut line = String::new();
    let stdout = serving.0.as_mut().and_then(|child| child.stdout.as_mut()).expect("it is piped");
    BufReader::with_capacity(1, stdout).read_line(&mut line).expect("it speaks");
    let address = line.trim().strip_prefix("listening on http://").expect("it says where").parse();
    (serving, address.expect("an address"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_run_stops_at_a_signal_resumes_and_ends_with_its_palette() {
    let folder = job();
    let law = law();
    let (child, address) = serving(folder.path(), &[]);
    let mut client = connect(address).await;
    let status = client.status(esta_proto::v1::StatusRequest {}).await.expect("an answer").into_inner().json;
    assert_eq!(serde_json::from_str::<Value>(&status).expect("JSON")["phase"], "waiting");
    drop(client);
    let (code, line) = failure(&child.stopped());
    assert_eq!((code, line.as_str()), (130, "esta-coordinator: interrupted; the same command resumes the run"));

    let (child, address) = serving(folder.path(), &[]);
    let mut worker = FakeWorker::new("w", &law);
    let last = worker.work(address).await;
    assert!(matches!(last, Last::Stopped(stop) if stop.exit_code == 0));
    let output = child.ended();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = out(&output);
    assert!(said.contains("budget") && said.contains("a[0]>b["), "{said}");
    assert!(said.contains("report.html"), "{said}");
    for file in ["job.json", "metrics.jsonl", "draws.parquet", "palette.json", "report.html", "record.redb"] {
        assert!(folder.path().join("run").join(file).is_file(), "{file} is missing");
    }

    let palette = call(folder.path(), &["palette", "--run-dir", "run", "--format", "json"]);
    let entries: Vec<Value> = serde_json::from_str(&out(&palette)).expect("entries");
    assert_eq!(entries.len(), law.catalog.bins().len());
    let cheapest = entries[0]["macs"].to_string();
    let one = call(folder.path(), &["palette", "--run-dir", "run", "--at-most", &cheapest, "--format", "json"]);
    let one: Vec<Value> = serde_json::from_str(&out(&one)).expect("entries");
    assert!(one.len() == 1 && one[0]["macs"].as_u64() <= entries[0]["macs"].as_u64());
    let (code, line) = failure(&call(folder.path(), &["palette", "--run-dir", "run", "--at-most", "1"]));
    assert_eq!((code, line.as_str()), (1, "esta-coordinator: no visited stitch costs at most 1 MACs"));
}

#[test]
fn a_job_with_hardly_a_choice_of_budgets_is_warned_of_by_every_command_that_reads_it() {
    let folder = job();
    let wide = ["--set", "budgets.gap=1e12"];
    let warned = |output: &Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.matches("budgets make only 1 bin(s) of this catalog").count(), 1, "{said}");
        assert!(!out(output).contains("bin(s)"), "results alone go to standard output");
    };
    warned(&call(folder.path(), &[&["catalog", "--config", "job.yaml", "--format", "json"], &wide[..]].concat()));
    warned(&call(folder.path(), &[&["config", "validate", "--config", "job.yaml"], &wide[..]].concat()));
    warned(&call(folder.path(), &[&["config", "print", "--config", "job.yaml"], &wide[..]].concat()));
    let (child, _) = serving(folder.path(), &wide);
    warned(&child.stopped());
    let mut run = program(folder.path(), &[&["run", "--config", "job.yaml"], &wide[..]].concat());
    warned(&run.env("ESTA_WORKER", dying_worker()).output().expect("it runs"));
    let fine = call(folder.path(), &["catalog", "--config", "job.yaml"]);
    assert!(fine.stderr.is_empty(), "{}", String::from_utf8_lossy(&fine.stderr));
}

/// Writes a profile of the job's catalog: the larger a stitch's number, the faster it is, by a millisecond each.
fn write_profile(path: &Path) {
    let law = law();
    let bound = law.catalog.id_bound() as f64;
    let row = |id: f64, macs: u64| serde_json::json!({"macs": macs, "median_ms": bound - id});
    let rows = law.catalog.stitches().map(|s| (s.id.to_string(), row(f64::from(s.id.0), s.macs)));
    let file = serde_json::json!({"device": "cpu", "stitches": rows.collect::<serde_json::Map<_, _>>()});
    fs::write(path, file.to_string()).expect("writes");
}

/// Serves the job to its end.
async fn served_to_its_end(folder: &Path, more: &[&str], law: &Arc<Law>) {
    let (child, address) = serving(folder, more);
    let last = FakeWorker::new("w", law).work(address).await;
    assert!(matches!(last, Last::Stopped(stop) if stop.exit_code == 0));
    assert!(child.ended().status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_palette_answers_a_latency_once_one_is_known() {
    let folder = job();
    served_to_its_end(folder.path(), &[], &law()).await;
    let palette =
        |more: &[&str]| call(folder.path(), &[&["palette", "--run-dir", "run", "--at-most", "2ms"], more].concat());
    let (code, line) = failure(&palette(&[]));
    assert_eq!(code, 1);
    assert!(
        line.contains("no latency of this run's stitches is known; run `esta-worker profile --run-dir run`"),
        "{line}"
    );

    write_profile(&folder.path().join("measured.json"));
    let fast = |output: Output| {
        let entries: Vec<Value> = serde_json::from_str(&out(&output)).expect("entries");
        assert!(entries.len() == 1 && entries[0]["milliseconds"].as_f64() <= Some(2.0), "{entries:?}");
    };
    fast(palette(&["--latency", "measured.json", "--format", "json"]));
    write_profile(&folder.path().join("run/latency.json"));
    fast(palette(&["--format", "json"]));
    let table = out(&call(folder.path(), &["palette", "--run-dir", "run"]));
    assert!(table.lines().next().is_some_and(|line| line.contains("latency")), "{table}");
    let (code, line) = failure(&call(folder.path(), &["palette", "--run-dir", "run", "--at-most", "0.5ms"]));
    assert_eq!((code, line.as_str()), (1, "esta-coordinator: no visited stitch takes at most 0.500 ms"));

    let foreign = r#"{"stitches": {"0": {"macs": 7, "median_ms": 1}}}"#;
    fs::write(folder.path().join("foreign.json"), foreign).expect("writes");
    let (code, line) = failure(&palette(&["--latency", "foreign.json"]));
    assert_eq!(code, 3);
    assert!(line.contains("foreign.json: it is of another catalog: stitch 0 costs 7 MACs there"), "{line}");
    let live = call(folder.path(), &["palette", "--at-most", "2ms", "--latency", "measured.json"]);
    assert_eq!(live.status.code(), Some(2), "a file of latencies is for a run's folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_open_its_budgets_by_latency_and_keeps_the_numbers() {
    let folder = job();
    let profile = folder.path().join("latency.json");
    write_profile(&profile);
    let by_latency = ["--set", "budgets.gap=null", "--set", "budgets.latency={profile: latency.json, gap: 2ms}"];
    let config = |command: &[&str]| call(folder.path(), &[command, &["--config", "job.yaml"], &by_latency].concat());
    let listed: Vec<Value> = serde_json::from_str(&out(&config(&["catalog", "--format", "json"]))).expect("stitches");
    let bound = law().catalog.id_bound() as f64;
    let last = listed.last().expect("a stitch");
    assert_eq!((listed[0]["milliseconds"].as_f64(), &last["bin"]), (Some(bound), &Value::from(0)));
    let table = out(&config(&["catalog"]));
    assert!(table.lines().next().is_some_and(|line| line.contains("latency")), "{table}");

    let printed = out(&config(&["config", "print"]));
    fs::write(folder.path().join("resolved.yaml"), &printed).expect("writes");
    let law = esta_config::load(&folder.path().join("resolved.yaml"), &[]).expect("it holds the numbers");
    served_to_its_end(folder.path(), &by_latency, &Arc::new(law)).await;
    let job: Value =
        serde_json::from_slice(&fs::read(folder.path().join("run/job.json")).expect("it is there")).expect("JSON");
    assert_eq!(job["budgets"]["latency"]["milliseconds"]["0"].as_f64(), Some(bound));

    let page = fs::read_to_string(folder.path().join("run/report.html")).expect("it is there");
    assert!(page.contains(&format!("0 <small>≤ {}</small>", listed_latency(&listed, 0))), "a budget is a time");

    fs::remove_file(&profile).expect("it was there");
    let best = call(folder.path(), &["palette", "--run-dir", "run", "--at-most", "0.002s", "--format", "json"]);
    let best: Vec<Value> = serde_json::from_str(&out(&best)).expect("entries");
    assert!(best.len() == 1 && best[0]["milliseconds"].as_f64() <= Some(2.0), "{best:?}");

    write_profile(&profile);
    let measured_again = fs::read_to_string(&profile).expect("readable").replace("1.0", "1.5");
    fs::write(&profile, measured_again).expect("writes");
    let (code, line) = failure(&call(folder.path(), &[&["serve", "--config", "job.yaml"], &by_latency[..]].concat()));
    assert_eq!(code, 4);
    assert!(line.contains("budgets.latency.milliseconds."), "another profile is another job: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_step_of_a_run_can_be_derived_again_from_its_record() {
    let folder = job();
    served_to_its_end(folder.path(), &[], &law()).await;
    let at = |step: &str| {
        let output = call(folder.path(), &["replay", "--run-dir", "run", "--step", step, "--format", "json"]);
        serde_json::from_str::<Value>(&out(&output)).expect("JSON")
    };
    let (early, late) = (at("3"), at("39"));
    let (steps, _) = recorded_in(&law(), &folder.path().join("run"));
    for (step, replay) in [(3, &early), (39, &late)] {
        let stitches: Vec<u64> =
            replay["slots"].as_array().expect("slots").iter().filter_map(|slot| slot["stitch"].as_u64()).collect();
        let expected: Vec<u64> = steps[step].draws.iter().map(|draw| draw.stitch.0.into()).collect();
        assert_eq!(stitches, expected);
        assert_eq!(replay["reduced_digest"], steps[step].reduced.to_string());
        assert_eq!(replay["table_version"], step - 1);
    }
    assert_ne!(early["table_digest"], late["table_digest"]);
    let text = out(&call(folder.path(), &["replay", "--run-dir", "run"]));
    assert!(text.starts_with("step 39, drawn from the table after 38 steps, first sample 312\n"), "{text}");
    assert!(text.contains("as on record") && text.contains(" stitches by importance"), "{text}");
    let (code, line) = failure(&call(folder.path(), &["replay", "--run-dir", "run", "--step", "99"]));
    assert_eq!((code, line.as_str()), (1, "esta-coordinator: step 99 is not on record yet: 40 steps are"));
}

/// The longest latency of a bin, as pages write it.
fn listed_latency(listed: &[Value], bin: u64) -> String {
    let of_bin = listed.iter().filter(|stitch| stitch["bin"] == bin);
    let longest = of_bin.filter_map(|stitch| stitch["milliseconds"].as_f64()).fold(0.0, f64::max);
    Latency::from_millis(longest).expect("a latency").to_string()
}

/// A folder whose run is on record to its end, and the record's bytes.
async fn run_on_record() -> (TempDir, PathBuf, Vec<u8>) {
    let folder = job();
    served_to_its_end(folder.path(), &[], &law()).await;
    let record = folder.path().join("run/record.redb");
    let bytes = fs::read(&record).expect("it is there");
    (folder, record, bytes)
}

/// The one line of a command that failed, which is all that it said.
fn only_line(output: &Output) -> (i32, String) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((said.lines().count(), out(output).as_str()), (1, ""), "{said}");
    failure(output)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_empty_cut_or_something_else_is_one_line_and_stays_as_it_is() {
    let (folder, record, whole) = run_on_record().await;
    let listening = ["serve", "--config", "job.yaml", "--listen", "127.0.0.1:0"];
    let commands: [&[&str]; 3] = [&listening, &["replay", "--run-dir", "run"], &["palette", "--run-dir", "run"]];
    let cut = whole[..whole.len() / 2].to_vec();
    let text = b"not a record at all".to_vec();
    for (found, why) in
        [(Vec::new(), "run/record.redb is damaged: it is empty"), (cut, "run/record.redb"), (text, "run/record.redb")]
    {
        fs::write(&record, &found).expect("writes");
        for command in commands {
            let (code, line) = only_line(&call(folder.path(), command));
            assert_eq!(code, 4, "{command:?}: {line}");
            assert!(line.contains(why), "{command:?}: {line}");
            assert!(fs::read(&record).expect("it is there") == found, "{command:?} has changed what it refused");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_later_version_wrote_is_one_line() {
    let (folder, record, _) = run_on_record().await;
    let meta: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(&record).expect("it is a record");
    let transaction = database.begin_write().expect("begins");
    transaction.open_table(meta).expect("opens").insert("format", 9u64.to_le_bytes().as_slice()).expect("writes");
    transaction.commit().expect("commits");
    drop(database);
    let serve = ["serve", "--config", "job.yaml", "--listen", "127.0.0.1:0"];
    for command in [&serve[..], &["replay", "--run-dir", "run"]] {
        let (code, line) = only_line(&call(folder.path(), command));
        assert!(code == 4 && line.ends_with("run/record.redb has format 9; this program reads up to 1"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_something_wrong_somewhere_is_one_line_or_what_was_written() {
    let (folder, record, whole) = run_on_record().await;
    let replay = || call(folder.path(), &["replay", "--run-dir", "run"]);
    let told = out(&replay());
    let refused = (0..40).filter(|seed| {
        fs::write(&record, Mutator::new(*seed).file(&whole)).expect("writes");
        let output = replay();
        if output.status.success() {
            assert_eq!(out(&output), told, "seed {seed}: silently another record");
            return false;
        }
        let (code, line) = only_line(&output);
        assert!(code == 4 && line.contains("run/record.redb"), "seed {seed}: {code} {line}");
        true
    });
    assert!(refused.count() > 10, "hardly anything was spoilt");
}

/// Of a program that cannot export, and says so: the lines on standard error of a call.
fn complaint(command: &mut Command, because: (&str, &str)) -> String {
    let output = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1").envs([because]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8_lossy(&output.stderr).into_owned() + &out(&output);
    lines.lines().find(|line| line.contains(because.0)).expect("it complains").to_owned()
}

#[test]
fn log_lines_are_text_on_a_terminal_and_json_elsewhere() {
    let folder = job();
    let arguments = ["config", "validate", "--config", "job.yaml"];
    let share = ("OTEL_TRACES_SAMPLER_ARG", "many");
    let line = complaint(&mut program(folder.path(), &arguments), share);
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!((&line["level"], &line["target"]), (&"WARN".into(), &"esta_telemetry".into()));
    assert_eq!(line["message"], "neither traces nor metrics are exported by OTLP");
    assert_eq!(line["error"], "OTEL_TRACES_SAMPLER_ARG is \"many\", and no share from 0 to 1");

    // Whatever else is wrong with the export is told in the same way, and ends nothing.
    let certificate = ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "nowhere.pem");
    let line = complaint(&mut program(folder.path(), &arguments), certificate);
    assert!(line.contains("names nowhere.pem, which cannot be read"), "{line}");

    let own = env!("CARGO_BIN_EXE_esta-coordinator");
    let mut terminal = Command::new("script");
    terminal.current_dir(folder.path()).env_remove("RUST_LOG");
    terminal.args(["-qec", &format!("{own} {}", arguments.join(" ")), "/dev/null"]);
    let line = complaint(&mut terminal, share);
    assert!(serde_json::from_str::<Value>(&line).is_err() && line.contains("WARN"), "{line:?}");
}
