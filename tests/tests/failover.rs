//! Leaders, those who stand by and the etcd between them are killed, stopped and sent away while workers train: somebody
//! leads on, and the run ends with the bits of one that nobody disturbed (MB-1, MB-2, ST-2).

use esta_tests::{EtcdCluster, Lab, Outcome, Run};

/// Enough to be in the middle of for some seconds.
const STEPS: u64 = 800;
const WORKERS: u32 = 2;

/// What this job leaves when nothing happens to it, with its record in a file.
fn undisturbed(lab: &Lab) -> anyhow::Result<Outcome> {
    let job = lab.write_job("calm", "", STEPS)?;
    Run::start(lab, &job, WORKERS)?.finish()
}

#[test]
fn st_2_whoever_leads_next_goes_on_where_the_killed_leader_was() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let etcd = EtcdCluster::start(lab.path(), 1)?;
    let job = lab.write_job("beheaded", "", STEPS)?;
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 3, WORKERS)?;
    for step in [50, 250, 450] {
        run.wait_for_step(step)?;
        let leader = run.leader_beside(&[])?;
        run.seat(leader).kill();
        run.leader_beside(&[leader])?;
        run.reseat(leader)?;
    }
    run.wait_for_step(500)?;
    let said = run.said();
    let count = |text: &str| said.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("the generation on record still stands"), 3, "{said}");
    assert_eq!(count("a generation forms"), 1, "no worker noticed more than a pause: {said}");
    assert!(calm == run.finish()?, "the run under four leaders ended with other bits");
    Ok(())
}

#[test]
fn mb_1_a_leader_that_slept_through_its_lease_leads_no_more_and_stands_by_again() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let etcd = EtcdCluster::start(lab.path(), 1)?;
    let job = lab.write_job("asleep", "", STEPS)?;
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 2, WORKERS)?;
    run.wait_for_step(100)?;
    let first = run.leader_beside(&[])?;
    run.seat(first).signal("STOP")?;
    let second = run.leader_beside(&[first])?;
    run.wait_for_step(200)?;
    run.seat(first).signal("CONT")?;
    run.wait_for_log("this coordinator leads no more and stands by again")?;
    // It is of use again.
    run.seat(second).kill();
    assert_eq!(run.leader_beside(&[second])?, first);
    run.wait_for_step(300)?;
    run.reseat(second)?;
    assert!(calm == run.finish()?, "a leader that came back changed the run's bits");
    Ok(())
}

#[test]
fn a_leader_that_is_told_to_end_hands_over_and_whoever_stands_by_may_come_and_go() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let etcd = EtcdCluster::start(lab.path(), 1)?;
    let job = lab.write_job("handed-over", "", STEPS)?;
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 3, WORKERS)?;
    run.wait_for_step(50)?;
    let first = run.leader_beside(&[])?;
    let standby = (first + 1) % 3;
    run.seat(standby).kill();
    run.wait_for_step(150)?;
    run.reseat(standby)?;
    run.seat(standby).signal("STOP")?;
    run.wait_for_step(250)?;
    run.seat(standby).signal("CONT")?;
    run.seat(first).signal("TERM")?;
    let line = run.seat(first).fails_with(130)?;
    assert!(line.contains("interrupted"), "{line}");
    run.leader_beside(&[first])?;
    run.wait_for_step(350)?;
    run.reseat(first)?;
    assert!(calm == run.finish()?, "a run that was handed over ended with other bits");
    Ok(())
}

#[test]
fn mb_2_an_etcd_that_is_killed_or_stopped_costs_a_pause_and_no_step() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let mut etcd = EtcdCluster::start(lab.path(), 1)?;
    let job = lab.write_job("unrecorded", "", STEPS)?;
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 2, WORKERS)?;
    run.wait_for_step(100)?;
    etcd.member(0).kill();
    etcd.member(0).restart()?;
    run.wait_for_step(300)?;
    // Long enough for every lease to end: nobody may lead, and somebody does afterwards.
    etcd.member(0).signal("STOP")?;
    run.wait_for_log("this coordinator leads no more and stands by again")?;
    etcd.member(0).signal("CONT")?;
    run.wait_for_step(500)?;
    assert!(calm == run.finish()?, "a run whose etcd failed ended with other bits");
    Ok(())
}

#[test]
fn mb_2_of_three_etcd_members_one_may_die_and_without_two_the_run_waits() -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let calm = undisturbed(&lab)?;
    let mut etcd = EtcdCluster::start(lab.path(), 3)?;
    let job = lab.write_job("outvoted", "", STEPS)?;
    let mut run = Run::on_etcd(&lab, &job, &etcd.store("t"), 2, WORKERS)?;
    run.wait_for_step(100)?;
    for member in 0..3 {
        etcd.member(member).kill();
        run.wait_for_step(200 + 100 * member as u64)?;
        etcd.member(member).restart()?;
    }
    etcd.member(0).kill();
    etcd.member(1).kill();
    run.wait_for_log("this coordinator leads no more and stands by again")?;
    etcd.member(0).restart()?;
    run.wait_for_step(500)?;
    etcd.member(1).restart()?;
    assert!(calm == run.finish()?, "a run whose etcd lost its quorum ended with other bits");
    Ok(())
}
