use super::*;
use crate::{
    arch::{Arch, VitArch},
    cost::Task,
    spec::{BudgetSpec, Mode, SpaceSpec},
};

fn millis(millis: f64) -> Latency {
    Latency::from_millis(millis).expect("a latency")
}

/// A profile of stitches by (MACs, p25, median, p75).
fn profile(stitches: &[(u64, f64, f64, f64)]) -> Profile {
    let measured = |&(macs, p25, median, p75): &(u64, f64, f64, f64)| Measurement {
        macs,
        median: millis(median),
        p25: Some(millis(p25)),
        p75: Some(millis(p75)),
    };
    let stitches = (0..).map(StitchId).zip(stitches.iter().map(measured)).collect();
    let torch = "2.11.0".into();
    let (device, hardware, precision) = ("cpu".into(), None, Precision::F32);
    Profile { device, hardware, precision, merged: true, batch: 1, threads: 1, rounds: 9, torch, stitches }
}

fn catalog() -> Catalog {
    let arch = |embed_dim| {
        let (image_size, patch_size, depth) = (8, 4, 3);
        Arch::Vit(VitArch { image_size, patch_size, in_chans: 1, embed_dim, depth, num_heads: 1, mlp_ratio: 4 })
    };
    let (budgets, task) = (BudgetSpec::Gap(1e3), Task::Classify { classes: 3 });
    Catalog::new(vec![arch(4), arch(8)], &SpaceSpec::default(), task, &budgets, Mode::Pst).expect("they stitch")
}

/// A profile that fits [`catalog`].
fn fitting() -> Profile {
    let rows: Vec<_> = catalog().stitches().map(|stitch| (stitch.macs, 1.0, 2.0, 3.0)).collect();
    profile(&rows)
}

#[test]
fn quartiles_lie_between_the_neighbours() {
    let times: Vec<Latency> = [4.0, 1.0, 3.0, 2.0].map(millis).to_vec();
    let measured = Measurement::of(7, &times).expect("four times");
    assert_eq!(
        (measured.p25, measured.median, measured.p75),
        (Some(millis(1.75)), millis(2.5), Some(millis(3.25))),
        "as numpy.percentile interpolates"
    );
    let alone = Measurement::of(7, &times[..1]).expect("one time");
    assert_eq!((alone.p25, alone.median, alone.p75), (Some(millis(4.0)), millis(4.0), Some(millis(4.0))));
    assert_eq!(Measurement::of(7, &[]), None);
}

#[test]
fn a_profile_of_this_catalog_tells_every_latency() {
    let latencies = fitting().latencies(&catalog()).expect("it fits");
    assert_eq!(latencies.len(), catalog().stitches().count());
    assert!(latencies.values().all(|latency| *latency == millis(2.0)));
}

#[test]
fn a_profile_of_another_catalog_is_known_by_its_macs() {
    let (catalog, last) = (catalog(), fitting().stitches.keys().last().copied().expect("a stitch"));
    let mut missing = fitting();
    missing.stitches.remove(&last);
    assert_eq!(missing.latencies(&catalog), Err(ProfileMisfit::Missing(last)));
    let mut foreign = fitting();
    let next = StitchId(last.0 + 1);
    foreign.stitches.insert(next, foreign.stitches[&last]);
    assert_eq!(foreign.latencies(&catalog), Err(ProfileMisfit::Unknown(next)));
    let mut other = fitting();
    other.stitches.get_mut(&last).expect("it is there").macs += 1;
    let flaw = other.latencies(&catalog).expect_err("a stitch differs").to_string();
    let macs = catalog.get(last).expect("it is there").macs;
    assert_eq!(flaw, format!("it is of another catalog: stitch {last} costs {} MACs there and {macs} here", macs + 1));
}

#[test]
fn a_stitch_slower_than_a_larger_one_is_named_unless_it_is_noise() {
    let profile = profile(&[
        (10, 0.9, 1.0, 1.1),
        (20, 4.9, 5.0, 5.1), // slower than both larger ones
        (30, 3.0, 3.5, 4.0), // its quartiles overlap the last one's
        (40, 3.2, 3.4, 3.6),
    ]);
    assert_eq!(profile.slower_than_larger(), BTreeMap::from([(StitchId(1), StitchId(3))]));
    // Of six pairs three disagree: 1 with 2 and 3, 2 with 3.
    assert_eq!(profile.macs_tau(), Some(0.0));
}

#[test]
fn the_file_names_its_units_and_another_tool_may_leave_out_what_is_not_needed() {
    let text = serde_json::to_value(profile(&[(10, 1.0, 2.0, 3.0)])).expect("JSON");
    let row = serde_json::json!({"macs": 10, "median_ms": 2.0, "p25_ms": 1.0, "p75_ms": 3.0});
    assert_eq!(text["stitches"], serde_json::json!({ "0": row }));
    assert_eq!((&text["device"], &text["precision"]), (&"cpu".into(), &"f32".into()));
    let lean = r#"{"stitches": {"7": {"macs": 10, "median_ms": 2}}}"#;
    let lean: Profile = serde_json::from_str(lean).expect("all that is needed");
    assert_eq!((lean.stitches[&StitchId(7)].median, lean.spread()), (millis(2.0), None));
}

#[test]
fn every_round_has_every_stitch_in_a_seeded_order_of_its_own() {
    let catalog = catalog();
    let rounds = [0, 1, 2].map(|round| order(&catalog, 1, round));
    assert_eq!(rounds[1], order(&catalog, 1, 1));
    assert!(rounds[0] != rounds[1] && rounds[1] != rounds[2]);
    for mut round in rounds {
        round.sort_unstable();
        assert!(round.into_iter().eq(catalog.stitches().map(|stitch| stitch.id)));
    }
}
