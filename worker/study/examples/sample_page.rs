//! The page of a study that never ran, to be looked at in a browser in light and in dark:
//! `cargo run -p esta-study --example sample_page -- sample.html`.

use std::{env, fs, io, path::PathBuf};

use esta_engine::table::Row;
use esta_proto::{BudgetId, StitchId};
use esta_study::{
    cell::{CellResult, Costs, StitchResult},
    jobs::Jobs,
    page::{About, ArmLine, Findings, Loss, Role, RuleGroup, RuleLine, render},
    plan::{Arm, Cell, Claim, Part, Source, Study, Target},
    summary::Summary,
};

fn main() -> io::Result<()> {
    let file = env::args().nth(1).unwrap_or_else(|| "sample.html".to_owned());
    let study = study();
    // The last runs are still to come.
    let cells = study.cells();
    let results: Vec<CellResult> = cells.iter().take(cells.len() - 26).map(result).collect();
    // No job of it exists: arms answer as one that says nothing does, by importance.
    let jobs = Jobs::default();
    let summary = Summary::of(&study, &results, &jobs);
    let findings = Findings { summary: &summary, results: &results, jobs: &jobs, rules: &rules(), angles: &[] };
    fs::write(file, render(&study, &findings, &about()))
}

fn about() -> About {
    About {
        command: "a made-up command\nand another".into(),
        version: "0.1.0 (made up)".into(),
        machine: "2 cores, 8 GiB".into(),
        date: "2026-11-24 13:30 UTC".into(),
        device: "cpu, float32".into(),
    }
}

fn study() -> Study {
    let target = |name: &str, words: &str| Target {
        name: name.into(),
        config: PathBuf::from(format!("configs/study/{name}.yaml")),
        words: words.into(),
        images_of: if name == "letters" { "typefaces" } else { "one file" }.into(),
    };
    let arm = |name: &str, words: &str, set: &[&str]| Arm {
        name: name.into(),
        words: words.into(),
        set: set.iter().map(|setting| (*setting).to_owned()).collect(),
        ..Arm::default()
    };
    let part = |name: &str| Part { name: name.into(), set: vec![format!("anchor.only={name}")] };
    let alone = Arm {
        parts: vec![part("s"), part("m"), part("l")],
        ..arm("alone", "each anchor tuned by itself with LoRA", &["mode=anchor"])
    };
    let twoway = Arm { targets: vec!["digits".into()], ..arm("twoway", "both directions", &["family.space=twoway"]) };
    Study {
        name: "sample".into(),
        title: "Does stitching pay? <made-up numbers>".into(),
        words: "One palette from one run against anchors tuned alone, and what each part of the method is worth; on \
            small vision transformers and images of another domain."
            .into(),
        targets: vec![
            target("digits", "handwritten digits, 1,000 labelled"),
            target("turned", "clothes turned by a quarter, inverted and coarsened, 1,000 labelled"),
            target("letters", "letters of both cases"),
        ],
        seeds: vec![0, 1, 2],
        set: Vec::new(),
        arms: vec![
            arm("esta", "the whole method: parameter-efficient stitch fine-tuning, sampling by importance", &[]),
            arm("bins", "stitches drawn uniformly inside each budget", &["sampling.strategy=bins"]),
            arm("snnet", "direct SN-Net adaptation: every weight is trained", &["mode=snnet"]),
            arm("no-floor", "without a floor of visits for anchors", &["sampling.anchor_floor=0"]),
            arm("no-bias", "without biases of a stitch's own", &["pst.bias=none"]),
            arm("zero-head", "heads that start from zero", &["train.head_init=zero", "train.warmup_ratio=0.1"]),
            alone,
            twoway,
        ],
        claims: claims(),
        angles: None,
    }
}

fn claims() -> Vec<Claim> {
    let claim = |source, arm: &str, against: &str, words: &str, ours: &[&str]| Claim {
        words: words.into(),
        arm: arm.into(),
        against: against.into(),
        source,
        ours: ours.iter().map(|choice| (*choice).to_owned()).collect(),
    };
    vec![
        claim(
            Source::Paper,
            "esta",
            "snnet",
            "Training adapters and a stitch's own biases is better than training \
            every weight of every stitch at once.",
            &["pst.lora_r", "pst.bias", "the vision recipe"],
        ),
        claim(
            Source::Paper,
            "esta",
            "no-bias",
            "Biases of a stitch's own relieve conflicts between stitches.",
            &["pst.bias"],
        ),
        claim(
            Source::Paper,
            "esta",
            "bins",
            "Drawing by importance is better than drawing uniformly.",
            &["score.q", "sampling.epsilon", "sampling.momentum"],
        ),
        claim(
            Source::Ours,
            "esta",
            "alone",
            "One run keeps what each anchor reaches alone.",
            &["sampling.anchor_floor", "train.head_init"],
        ),
        claim(
            Source::Ours,
            "esta",
            "no-floor",
            "A floor of visits keeps anchors from starving.",
            &["sampling.anchor_floor"],
        ),
        claim(Source::Ours, "zero-head", "esta", "Heads that start from zero are as good as the ridge start.", &[]),
        claim(Source::Ours, "twoway", "esta", "A space of both directions has more to offer.", &["family.space.kind"]),
    ]
}

const MACS: [u64; 11] = [
    398_000, 640_000, 905_000, 1_220_000, 1_480_000, 2_170_000, 3_100_000, 4_600_000, 6_200_000, 8_900_000, 11_800_000,
];
const PARAMS: [u64; 11] = [12, 20, 31, 44, 52, 77, 120, 180, 260, 330, 420];

fn result(cell: &Cell) -> CellResult {
    let id = &cell.id;
    let alone = !id.part.is_empty();
    let own = ["s", "m", "l"].iter().position(|part| *part == id.part);
    let kept = |place: &usize| !alone || own.map(|own| 5 * own) == Some(*place);
    let costs = Costs {
        cpu_seconds: Some(if alone { 20.0 } else { 70.0 }),
        train_seconds: if alone { 21.0 } else { 74.0 } * (1.0 + 0.1 * noise(&id.name(), 99)) * slower(&id.arm),
        eval_seconds: 6.5,
        images: if alone { 33_333 } else { 100_000 },
        held_out: 5_000,
        peak_memory: Some(210 << 20),
        trained_params: if id.arm == "snnet" { 1_904_112 } else { 41_220 },
        state_bytes: if id.arm == "snnet" { 7_616_448 } else { 164_880 },
    };
    let stitches = (0..MACS.len()).filter(kept).map(|place| stitch(cell, place)).collect();
    CellResult { id: id.clone(), key: String::new(), costs, stitches }
}

fn slower(arm: &str) -> f64 {
    if arm == "snnet" { 1.62 } else { 1.0 }
}

fn stitch(cell: &Cell, place: usize) -> StitchResult {
    let anchor = place.is_multiple_of(5);
    let id = &cell.id;
    let base = if id.target == "letters" { 0.52 } else { 0.66 } + 0.045 * (place as f64 * 0.7).sqrt() * 1.4;
    let worth = match id.arm.as_str() {
        "snnet" => -0.021,
        "no-bias" => -0.006,
        "zero-head" => -0.028,
        "bins" => 0.002,
        "no-floor" if anchor => -0.02,
        "twoway" => 0.01,
        _ => 0.0,
    };
    let own = if anchor { 0.0 } else { -0.012 };
    let accuracy = base + worth + own + 0.006 * noise(&id.name(), place);
    let believed = -accuracy + 0.01 * noise(&id.name(), place + 50);
    StitchResult {
        stitch: StitchId(place as u32),
        path: if anchor { ["s", "m", "l"][place / 5].to_owned() } else { format!("s[0-{place}]>m[{place}-5]") },
        anchor,
        budget: BudgetId(place as u32 / 2),
        macs: MACS[place],
        params: 1000 * PARAMS[place],
        accuracy,
        halves: [accuracy - 0.002, accuracy + 0.002],
        row: Row { importance: Some(-believed), effect: Some(believed), ..Row::default() },
        values: Default::default(),
    }
}

/// A number from -1 to 1 that is the same in every run.
fn noise(name: &str, place: usize) -> f64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.bytes().chain(place.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, mix);
    (hash >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

fn rules() -> Vec<RuleGroup> {
    let line = |rule: &str, words: &str, role, mean: f64, split: f64, tau: Option<f64>| RuleLine {
        rule: rule.into(),
        words: words.into(),
        cost: "no extra work".into(),
        role,
        mean: Some(mean),
        split: Some(split),
        interval: Some((0.72 * mean, 1.31 * mean)),
        split_interval: Some((0.6 * split, 1.4 * split)),
        tau_by_budget: (0..5).filter_map(|budget| Some((budget, tau? - 0.1 * f64::from(budget)))).collect(),
        tau,
        note: String::new(),
    };
    let lines = vec![
        line("snip", "highest SNIP saliency, moving average (the paper's rule)", Role::Rule, 1.24, 1.06, Some(-0.2)),
        line("loss", "lowest training loss, moving average", Role::Rule, 0.46, 0.28, Some(0.43)),
        line(
            "auto",
            "lowest own part of the loss, beyond the trend that all stitches share",
            Role::Rule,
            0.26,
            0.08,
            Some(0.53),
        ),
        RuleLine {
            rule: "smooth".into(),
            words: "the same over neighbours".into(),
            note: "diverged".into(),
            ..RuleLine::default()
        },
        line("largest", "largest in the budget", Role::Trivial, 0.35, 0.17, Some(0.33)),
        line("smallest", "smallest in the budget", Role::Trivial, 1.41, 1.22, Some(-0.33)),
        line("random", "any of them, expected", Role::Trivial, 0.8, 0.62, None),
    ];
    let arm = |name: &str| ArmLine {
        arm: name.into(),
        runs: 9,
        auto: Loss { mean: 0.26, split: 0.08 },
        snip: Loss { mean: 1.24, split: 1.06 },
        control: "largest".into(),
        best_control: Loss { mean: 0.35, split: 0.17 },
        interval: Some((0.2, 0.8)),
    };
    let group = |title: &str, words: &str, lines| RuleGroup {
        title: title.into(),
        words: words.into(),
        shipped: "auto".into(),
        lines,
        arms: ["esta", "bins"].map(arm).into(),
    };
    let few = vec![
        line("auto", "", Role::Rule, 0.4, -0.03, Some(0.2)),
        line("largest", "", Role::Trivial, 0.32, 0.1, Some(0.1)),
    ];
    vec![group("esta space", "18 palettes, 5 budgets each", lines), group("two-way space", "3 palettes", few)]
}
