//! Budgets by latency: bins, palettes and constraints in the order of time, whatever MACs say.

use std::collections::BTreeMap;

use esta_engine::budget::{Price, Unit};
use esta_engine::latency::Latency;
use esta_engine::law::Law;
use esta_engine::palette::{at_most, palette, pareto};
use esta_engine::spec::{JobSpec, PaletteRule, SpecError};
use esta_engine::table::{Outcome, Table};
use esta_proto::{BudgetId, StitchId};
use serde_json::{Value, json};

/// Two anchors of three blocks: stitches 0 and 1 are the anchors, 2.. the paths between them.
fn spec(budgets: &Value) -> JobSpec {
    let anchor = |name: &str, width: u32| {
        let arch = json!({"image_size": 8, "patch_size": 4, "embed_dim": width, "depth": 3, "num_heads": 2});
        json!({"name": name, "weights": name, "arch": arch})
    };
    let spec = json!({
        "name": "test",
        "family": {"anchors": [anchor("a", 4), anchor("b", 8)]},
        "budgets": budgets,
        "train": {"max_steps": 10},
        "data": {"num_classes": 3, "train": {"layout": "idx", "path": "x"}},
    });
    serde_json::from_value(spec).expect("it parses")
}

/// A stitch takes 1 ms for every number above its own: the largest id is the fastest, against all MACs.
fn against_macs() -> BTreeMap<String, u32> {
    let catalog = Law::new(spec(&json!({"gap": 1e3}))).expect("valid").catalog;
    let bound = u32::try_from(catalog.id_bound()).expect("small");
    catalog.stitches().map(|stitch| (stitch.id.to_string(), bound - stitch.id.0)).collect()
}

fn law(bins: Value) -> Result<Law, SpecError> {
    let mut latency = bins;
    latency["milliseconds"] = json!(against_macs());
    Law::new(spec(&json!({ "latency": latency })))
}

fn ms(millis: f64) -> Latency {
    Latency::from_millis(millis).expect("a latency")
}

/// Every stitch has been visited and is worth its id.
fn table(law: &Law) -> Table {
    let mut table = Table::new(law.catalog.id_bound(), 0.9);
    let outcome = |id: StitchId| Outcome { score: f64::from(id.0), loss: 1.0, grad_norm: 1.0, valid: true };
    let slots: Vec<_> = law.catalog.stitches().map(|s| (s.id, outcome(s.id))).collect();
    table.commit(&slots);
    table
}

#[test]
fn bins_open_by_latency_and_ascend_in_it() {
    let law = law(json!({"gap": "2ms"})).expect("valid");
    let catalog = &law.catalog;
    assert_eq!(catalog.unit(), Unit::Latency);
    let all: Vec<u32> = catalog.stitches().map(|stitch| stitch.id.0).collect();
    let last = *all.last().expect("stitches");
    let slowest_last = catalog.bins().last().expect("bins");
    assert_eq!(catalog.bins()[0], [last - 2, last - 1, last].map(StitchId), "1, 2 and 3 ms are at most 2 ms apart");
    assert!(slowest_last.contains(&StitchId(0)), "the smallest in MACs is the slowest");
    assert_eq!(catalog.bins().iter().map(Vec::len).sum::<usize>(), all.len());
    assert_eq!(catalog.most_of(BudgetId(0)), Some(Price::Latency(ms(3.0))));
    assert_eq!(catalog.most_of(BudgetId(99)), None);
    for stitch in catalog.stitches() {
        assert!(catalog.bins()[stitch.budget.index()].contains(&stitch.id));
    }
}

#[test]
fn an_edge_includes_its_own_latency_and_a_slower_stitch_is_refused_with_what_would_suffice() {
    let bound = against_macs().values().max().copied().expect("stitches");
    let law = law(json!({"edges": ["2ms", 2.5, format!("{}s", f64::from(bound) / 1e3)]})).expect("valid");
    assert_eq!(law.catalog.bins().len(), 2, "nothing lies between 2 and 2.5 ms");
    assert_eq!(law.catalog.bins()[0].len(), 2);
    let flaw = self::law(json!({"edges": ["2ms"]})).expect_err("most are slower");
    assert_eq!(flaw.key, "budgets.latency.edges");
    assert!(flaw.flaw.ends_with(&format!("above the last edge; the slowest takes {bound}.000 ms")), "{flaw}");
}

#[test]
fn what_says_no_bins_is_refused_by_its_key() {
    let flaw = |bins: Value| law(bins).expect_err("flawed").to_string();
    assert!(flaw(json!({})).starts_with("budgets.latency: give gap, such as 2ms, or edges"));
    assert_eq!(flaw(json!({"gap": 1, "edges": [1]})), "budgets.latency: give either gap or edges, not both");
    assert_eq!(flaw(json!({"edges": []})), "budgets.latency.edges: is empty");
    assert_eq!(flaw(json!({"edges": [2, "1ms"]})), "budgets.latency.edges: does not ascend");
    let unread = flaw(json!({"gap": 1, "profile": "latency.json"}));
    assert_eq!(unread, "budgets.latency.profile: \"latency.json\" was not read");
}

#[test]
fn latencies_are_of_the_catalogs_stitches_and_of_no_other() {
    let with = |change: fn(&mut BTreeMap<String, u32>)| {
        let mut milliseconds = against_macs();
        change(&mut milliseconds);
        let budgets = json!({"latency": {"gap": 1, "milliseconds": milliseconds}});
        Law::new(spec(&budgets)).expect_err("flawed").to_string()
    };
    let key = "budgets.latency.milliseconds";
    assert_eq!(with(|all| all.retain(|stitch, _| stitch != "1")), format!("{key}: stitch 1 has none"));
    assert_eq!(with(|all| all.extend([("99".into(), 1)])), format!("{key}: the catalog has no stitch 99"));
    assert!(with(BTreeMap::clear).contains("esta-worker profile"));
}

#[test]
fn a_constraint_by_latency_means_at_most() {
    let law = law(json!({"gap": "2ms"})).expect("valid");
    let table = table(&law);
    let best = |rule, most| at_most(&law.catalog, &table, rule, most).map(|choice| (choice.stitch, choice.latency));
    let last = StitchId(u32::try_from(law.catalog.id_bound()).expect("small") - 1);
    assert_eq!(best(PaletteRule::Snip, Price::Latency(ms(2.0))), Some((last, Some(ms(1.0)))));
    assert_eq!(best(PaletteRule::Snip, Price::Latency(ms(0.999))), None);
    // All losses are equal: the faster wins by latency, the one of fewer MACs by MACs.
    assert_eq!(best(PaletteRule::Loss, Price::Latency(ms(99.0))), Some((last, Some(ms(1.0)))));
    assert_eq!(best(PaletteRule::Loss, Price::Macs(u64::MAX)).map(|(stitch, _)| stitch), Some(StitchId(0)));
}

#[test]
fn a_palette_and_its_front_ascend_in_latency() {
    let law = law(json!({"gap": "2ms"})).expect("valid");
    let choices = palette(&law.catalog, &table(&law), PaletteRule::Loss);
    assert_eq!(choices.len(), law.catalog.bins().len());
    assert!(choices.windows(2).all(|pair| pair[0].latency < pair[1].latency));
    assert!(choices.iter().any(|choice| choice.macs < choices[0].macs), "MACs do not ascend here");
    let same: Vec<f64> = choices.iter().map(|_| 0.5).collect();
    assert_eq!(pareto(&choices, &same), choices[..1], "of equally good ones the fastest");
}

#[test]
fn a_catalog_by_macs_knows_no_latency_until_it_is_given() {
    let by_macs = Law::new(spec(&json!({"gap": 1e3}))).expect("valid").catalog;
    assert!(by_macs.unit() == Unit::Macs && !by_macs.knows_latencies());
    assert!(by_macs.at_most(Price::Latency(ms(99.0))).next().is_none());
    let given = by_macs.stitches().map(|stitch| (stitch.id, ms(1.0))).collect();
    let known = by_macs.with_latencies(&given);
    assert!(known.knows_latencies() && known.bins() == by_macs.bins());
    assert_eq!(known.at_most(Price::Latency(ms(1.0))).count(), by_macs.stitches().count());
    let as_before = serde_json::to_value(by_macs.get(StitchId(0))).expect("JSON");
    assert_eq!(as_before.get("milliseconds"), None, "an unknown latency leaves no trace");
}

#[test]
fn the_job_that_is_served_carries_the_numbers() {
    let law = law(json!({"gap": "2ms"})).expect("valid");
    let text = serde_json::to_string(&law.spec).expect("JSON");
    let served: JobSpec = serde_json::from_str(&text).expect("a job");
    assert_eq!(Law::new(served).expect("valid").catalog, law.catalog);
    let budgets = &serde_json::from_str::<Value>(&text).expect("JSON")["budgets"];
    assert_eq!((&budgets["latency"]["gap"], &budgets["latency"]["milliseconds"]["1"]), (&json!(2.0), &json!(6.0)));
}
