//! The page in a browser, with real runs behind it: workers that come, go and die, the end of a run, and names that are meant to
//! become markup. `tests/page/live.mjs` compares what a reader sees with the state behind it.

use std::{io::Write, net::TcpStream, path::Path, process::Command, time::Duration};

use anyhow::Context;
use esta_tests::{
    EtcdServer, Lab, Process, Run, Setting,
    backends::{free_address, repository},
    deadline,
    http::{get, probe},
};
use serde_json::Value;

/// A browser takes its time where processors are busy.
const PATIENCE: Duration = Duration::from_secs(240);

/// A reader who looks at the page until it shows what is expected, and then at every part of it.
fn reader(lab: &Lab, name: &str, page: &str, expected: &[&str]) -> anyhow::Result<Process> {
    let mut node = Command::new("node");
    let url = format!("http://{page}");
    let shots = lab.path().join(format!("shots-{name}"));
    node.current_dir(repository().join("tests/page"))
        .args(["live.mjs", "--url", &url, "--deadline", "200", "--shots"])
        .arg(shots)
        .args(expected);
    Process::spawn(lab.path(), name, &mut node)
}

/// A reader of a report that somebody sent: a file in a browser.
fn report_reader(lab: &Lab, file: &Path) -> anyhow::Result<Process> {
    let mut node = Command::new("node");
    node.current_dir(repository().join("tests/page")).args(["report.mjs", "--file"]).arg(file);
    Process::spawn(lab.path(), "report", &mut node)
}

fn saw(mut reader: Process) -> anyhow::Result<()> {
    let status = reader.wait_for(PATIENCE)?;
    anyhow::ensure!(status.success(), "the reader: {}{}", reader.out(), reader.log());
    Ok(())
}

/// Fixtures of every kind of state, also those that no run comes to at will: `tests/page/fixtures.mjs` says which.
#[test]
fn every_kind_of_state_is_shown_as_it_is_and_hostile_strings_stay_strings() -> anyhow::Result<()> {
    let lab = Lab::without_anchors()?;
    let mut node = Command::new("node");
    node.current_dir(repository().join("tests/page")).arg("fixtures.mjs");
    saw(Process::spawn(lab.path(), "fixtures", &mut node)?)
}

#[test]
fn a_reader_sees_workers_come_and_die_and_the_palette_at_the_end() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let page = free_address()?;
    let serve = ["--http", &page, "--linger", "forever"].map(str::to_owned).to_vec();
    // As long as readers need; it is ended when they have seen it.
    let job = lab.write_job("seen", "sampling: {slots: 4}\n", 60_000)?;
    let mut run = Run::set(&lab, &job, 2, Setting { serve: serve.clone(), ..Setting::default() })?;
    run.wait_for_step(20)?;
    saw(reader(&lab, "two", &page, &["--expect-members", "2"])?)?;
    run.add_worker()?;
    // A name is whatever somebody calls a worker.
    run.add_worker_named("<img src=x onerror=alert(1)>")?;
    saw(reader(&lab, "four", &page, &["--expect-members", "4", "--expect-event", "preparing"])?)?;
    run.kill_worker(2);
    saw(reader(&lab, "three", &page, &["--expect-members", "3", "--expect-event", "ended"])?)?;
    run.coordinator().signal("TERM")?;
    run.coordinator().wait()?;
    drop(run);

    let page = free_address()?;
    let serve = ["--http", &page, "--linger", "forever"].map(str::to_owned).to_vec();
    let job = lab.write_job("done", "sampling: {slots: 4}\n", 40)?;
    let mut run = Run::set(&lab, &job, 1, Setting { serve, ..Setting::default() })?;
    let finished = reader(&lab, "complete", &page, &["--until", "complete"])?;
    saw(finished).with_context(|| run.said())?;
    run.coordinator().signal("TERM")?;
    run.finish()?;
    saw(report_reader(&lab, &lab.path().join("done/report.html"))?)
}

#[test]
fn a_page_that_stays_open_tells_the_whole_run_whoever_leads() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let page = free_address()?;
    let setting = Setting { serve: ["--http", &page].map(str::to_owned).to_vec(), ..Setting::default() };
    let mut run = Run::set(&lab, &lab.write_job("led-twice", "sampling: {slots: 4}\n", 60_000)?, 2, setting)?;
    run.wait_for_step(20)?;
    // Its palette, its curves and its events are compared with what the last leader answers.
    let losses =
        ["--through-losses", "2", "--expect-members", "2", "--expect-event", "resumed", "--expect-leaders", "3"];
    let reader = reader(&lab, "loyal", &page, &losses)?;
    for number in 1..=2 {
        let seen = |word: &str| (reader.out().lines().filter(|line| *line == word).count() == number).then_some(());
        deadline("the page to be live", || seen("live")).with_context(|| reader.log())?;
        run.seat(0).kill();
        deadline("the page to say that it is not connected", || seen("lost")).with_context(|| reader.log())?;
        run.reseat(0)?;
    }
    saw(reader).with_context(|| run.said())?;
    run.kill_all();
    Ok(())
}

#[test]
fn whoever_stands_by_shows_the_run_of_the_leader() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let etcd = EtcdServer::start(lab.path())?;
    let job = lab.write_job("from-afar", "sampling: {slots: 4}\n", 60_000)?;
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 2, 1)?;
    run.wait_for_step(20)?;
    let leader = run.leader_beside(&[])?;
    let pages = [run.page_of(leader)?, run.page_of(1 - leader)?];
    let own = deadline("who stands by to know the leader's page", || {
        let own: Value = serde_json::from_str(&get(&pages[1], "/api/state?own").ok()?.1).ok()?;
        own["leader_page"].is_string().then_some(own)
    })?;
    assert_eq!((&own["leader_page"], &own["run"]), (&format!("http://{}", pages[0]).into(), &Value::Null));
    saw(reader(&lab, "from-afar", &pages[1], &["--expect-members", "1"])?)?;
    // Without a leader it tells what it knows: nothing, until it leads itself.
    run.seat(leader).signal("STOP")?;
    run.leader_beside(&[leader])?;
    saw(reader(&lab, "from-near", &pages[1], &["--expect-members", "1", "--expect-leaders", "2"])?)?;
    run.seat(leader).signal("CONT")?;
    run.kill_all();
    Ok(())
}

/// Readers who ask for much and take nothing of it.
fn stalled(page: &str, count: usize) -> anyhow::Result<Vec<TcpStream>> {
    let reader = |number: usize| {
        let mut stream = TcpStream::connect(page)?;
        // What is asked at once on one connection is answered in order: far more than sockets hold.
        let (path, times) = if number.is_multiple_of(2) { ("/api/events", 1) } else { ("/api/state", 5_000) };
        let question = format!("GET {path} HTTP/1.1\r\nHost: {page}\r\n\r\n").repeat(times);
        stream.set_nonblocking(true)?;
        // The server stops to read as well, so not all of it may leave.
        anyhow::ensure!(stream.write(question.as_bytes())? > 0, "nothing was asked");
        Ok(stream)
    };
    (0..count).map(reader).collect()
}

#[test]
fn readers_who_take_nothing_change_no_bit_and_keep_no_probe_waiting() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let undisturbed = Run::start(&lab, &lab.write_job("calm", "sampling: {slots: 4}\n", 200)?, 1)?.finish()?;
    let page = free_address()?;
    let setting = Setting { serve: ["--http", &page].map(str::to_owned).to_vec(), ..Setting::default() };
    let mut run = Run::set(&lab, &lab.write_job("stared-at", "sampling: {slots: 4}\n", 200)?, 1, setting)?;
    run.wait_for_step(5)?;
    let readers = stalled(&page, 64)?;
    for step in [40, 80, 120] {
        run.wait_for_step(step)?;
        let (status, _) = probe(page.parse()?, "/readyz", Duration::from_secs(5))?;
        assert_eq!(status, 200, "with {} readers at step {step}", readers.len());
    }
    let outcome = run.finish()?;
    assert!(outcome == undisturbed, "a run that is stared at ended with other bits");
    drop(readers);
    Ok(())
}
