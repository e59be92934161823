//! How long a run stands still when one of its processes is killed or stopped: rows F1 to F4 and F7 of the goals.
//!
//! Times are taken from outside, from the signal until the coordinator's status shows what was waited for; the status is
//! asked for again and again, which is part of the figure (about a millisecond).

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::{EtcdCluster, Lab, PATIENCE, Run, Sight, process::looking};

/// A run that is killed at is never meant to end.
const ENDLESS: u64 = 10_000_000;
const WORKERS: usize = 3;
/// Steps between two blows: everybody is at work again.
const CALM: u64 = 50;

/// One row: what was done, and every time it took.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// As the goals are numbered.
    pub id: &'static str,
    /// What happened, and until when the time was taken.
    pub what: &'static str,
    /// What it should take at most.
    pub goal_ms: Option<f64>,
    /// Milliseconds of every round.
    pub ms: Vec<f64>,
}

/// Kills and stops one process after another, each as many times as `rounds` says.
///
/// # Errors
/// When a process does not start, or the run does not go on.
pub fn measure(rounds: u32) -> anyhow::Result<Vec<Figure>> {
    let lab = Lab::new()?;
    let mut figures = workers(&lab, rounds)?;
    figures.extend(leaders(&lab, rounds.div_ceil(3))?);
    figures.extend(etcd(&lab, rounds.div_ceil(3))?);
    Ok(figures)
}

/// F1 to F3.
fn workers(lab: &Lab, rounds: u32) -> anyhow::Result<Vec<Figure>> {
    let job = lab.write_job("kills", "", ENDLESS)?;
    let mut run = Run::start(lab, &job, WORKERS as u32)?;
    let [mut noticed, mut committed, mut step, mut silent, mut resumed, mut joins, mut peace] =
        [const { Vec::new() }; 7];
    for _ in 0..rounds {
        step.push(step_time(&run)?);
        let before = calm(&run, WORKERS)?;
        let start = Instant::now();
        run.kill_worker(0);
        seen(&run, |sight| sight.workers.len() < WORKERS)?;
        noticed.push(millis(start));
        next_commit(&run, &before)?;
        committed.push(millis(start));
        run.add_worker()?;
        seen(&run, |sight| sight.workers.len() == WORKERS)?;
        joins.push(longest_pause(&run, |sight| sight.ready.len() == WORKERS)?);
        peace.push(longest_pause(&run, |_| true)?);

        let before = calm(&run, WORKERS)?;
        let start = Instant::now();
        run.worker_at(0).signal("STOP")?;
        seen(&run, |sight| sight.workers.len() < WORKERS)?;
        silent.push(millis(start));
        next_commit(&run, &before)?;
        resumed.push(millis(start));
        run.kill_worker(0);
        run.add_worker()?;
    }
    run.kill_all();
    Ok(vec![
        Figure { id: "-", what: "a step of these runs, for comparison", goal_ms: None, ms: step },
        Figure { id: "-", what: "the longest time without a commit while nothing happens", goal_ms: None, ms: peace },
        Figure { id: "-", what: "the same while a worker that has loaded joins", goal_ms: None, ms: joins },
        Figure { id: "F1", what: "a worker is killed: the coordinator knows", goal_ms: Some(50.0), ms: noticed },
        Figure { id: "F2", what: "the same: the others have committed a step", goal_ms: Some(500.0), ms: committed },
        Figure { id: "F3", what: "a worker is stopped: it is evicted", goal_ms: Some(2000.0), ms: silent },
        Figure { id: "F3", what: "the same: the others have committed a step", goal_ms: None, ms: resumed },
    ])
}

/// F4.
fn leaders(lab: &Lab, rounds: u32) -> anyhow::Result<Vec<Figure>> {
    let etcd = EtcdCluster::start(lab.path(), 1)?;
    let job = lab.write_job("beheaded", "", ENDLESS)?;
    let mut run = Run::on_etcd(lab, &job, &etcd.store("kills"), 2, WORKERS as u32)?;
    let (mut serving, mut committed) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = calm(&run, WORKERS)?;
        let start = Instant::now();
        run.seat(before.leader).kill();
        let after = until(|| run.sight_beside(&[before.leader])).with_context(|| run.said())?;
        serving.push(millis(start));
        ensure!(after.durable >= before.durable, "steps are gone: {} after {}", after.durable, before.durable);
        seen(&run, |sight| sight.durable > after.durable)?;
        committed.push(millis(start));
        run.reseat(before.leader)?;
    }
    run.kill_all();
    Ok(vec![
        Figure { id: "F4", what: "the leader is killed: a standby serves", goal_ms: Some(3500.0), ms: serving },
        Figure { id: "F4", what: "the same: it has committed a step", goal_ms: None, ms: committed },
    ])
}

/// F7.
fn etcd(lab: &Lab, rounds: u32) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in(lab.path())?;
    let mut etcd = EtcdCluster::start(folder.path(), 1)?;
    let job = lab.write_job("unrecorded", "", ENDLESS)?;
    let run = Run::on_etcd(lab, &job, &etcd.store("kills"), 2, WORKERS as u32)?;
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        calm(&run, WORKERS)?;
        let start = Instant::now();
        etcd.member(0).kill();
        // What was on its way when etcd was killed may still be told.
        let left = run.sight().map_or(0, |sight| sight.durable);
        etcd.member(0).restart()?;
        seen(&run, |sight| sight.durable > left + 1)?;
        gaps.push(millis(start));
    }
    run.kill_all();
    Ok(vec![Figure {
        id: "F7",
        what: "etcd is killed and started again: a step is committed",
        goal_ms: None,
        ms: gaps,
    }])
}

/// Waits until this many workers have trained together for a while.
fn calm(run: &Run, workers: usize) -> anyhow::Result<Sight> {
    let since = seen(run, |sight| sight.ready.len() == workers)?.durable;
    seen(run, |sight| sight.ready.len() == workers && sight.durable >= since + CALM)
}

/// Milliseconds of a step, by the steps between two looks.
fn step_time(run: &Run) -> anyhow::Result<f64> {
    let (first, start) = (calm(run, WORKERS)?, Instant::now());
    let last = seen(run, |sight| sight.durable >= first.durable + CALM)?;
    Ok(millis(start) / (last.durable - first.durable) as f64)
}

/// The longest time between two commits, in milliseconds, from now until it shows this and some steps more.
fn longest_pause(run: &Run, mut shows: impl FnMut(&Sight) -> bool) -> anyhow::Result<f64> {
    let (mut longest, mut durable, mut since, mut last) = (0.0_f64, 0, Instant::now(), u64::MAX);
    seen(run, |sight| {
        if sight.durable > durable {
            longest = longest.max(millis(since));
            (durable, since) = (sight.durable, Instant::now());
        }
        if last == u64::MAX && shows(sight) {
            last = sight.durable + CALM / 5;
        }
        sight.durable >= last
    })?;
    Ok(longest)
}

/// Waits for a step that a later generation than that of `before` has committed.
fn next_commit(run: &Run, before: &Sight) -> anyhow::Result<()> {
    let formed = seen(run, |sight| sight.generation > before.generation)?;
    seen(run, |sight| sight.durable > formed.durable)?;
    Ok(())
}

/// Waits until whoever leads shows this.
fn seen(run: &Run, mut shows: impl FnMut(&Sight) -> bool) -> anyhow::Result<Sight> {
    until(|| run.sight().filter(&mut shows)).with_context(|| run.said())
}

fn until<T>(found: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    looking(Duration::from_micros(500), PATIENCE, "the run to go on", found)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
