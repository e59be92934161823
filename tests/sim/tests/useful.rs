//! Row F10: what failures cost, at two points of the curve; `esta-sim useful` prints the whole of it.

use esta_sim::{Failures, useful_work};

#[test]
fn thirty_workers_lose_no_more_than_the_step_in_flight_however_often_one_of_them_fails() {
    for ratio in [0.1, 1.0] {
        let share = useful_work(1, &Failures::f10(ratio, 150)).expect("the run is as if nothing had failed");
        assert!(share.failures > 0 && share.of_floor >= 0.95, "{share:?}");
    }
}

#[test]
fn a_seed_gives_the_same_share_every_time() {
    let once = || useful_work(7, &Failures::f10(0.5, 20)).expect("it holds");
    assert_eq!(once(), once());
}
