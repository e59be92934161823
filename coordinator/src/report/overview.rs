//! The headline: what was trained, how long it took, what came out (HANDS).

use esta_engine::cost::Task;
use esta_engine::spec::{JobSpec, Mode, SamplingStrategy, SpaceKind};
use esta_page::{
    markup::{header, tile},
    numbers::{count, date, duration, or_dash, percent, si, significant},
};

use super::evidence::Evidence;

pub fn section(evidence: &Evidence) -> String {
    header(mode_words(evidence.spec.mode), &evidence.spec.name, &summary(evidence), &tiles(evidence))
}

fn mode_words(mode: Mode) -> &'static str {
    match mode {
        Mode::Pst => "parameter-efficient stitch fine-tuning",
        Mode::Snnet => "direct SN-Net adaptation",
        Mode::Anchor => "anchors tuned alone",
    }
}

/// One sentence on the family, the space and the task.
fn summary(evidence: &Evidence) -> String {
    let spec = &evidence.spec;
    let names: Vec<&str> = spec.family.anchors.iter().map(|anchor| anchor.name.as_str()).collect();
    let stitches = evidence.catalog.stitches().count();
    let trained = match (spec.mode, spec.trains_everything()) {
        (Mode::Anchor, true) => "every weight".to_owned(),
        (_, true) => "every weight and every stitching layer".to_owned(),
        _ => format!(
            "shared LoRA (rank {}), stitching layers' LoRA (rank {}) and stitch biases",
            spec.pst.lora_r, spec.pst.stitch_r
        ),
    };
    format!(
        "{} anchors ({}), {} space: {stitches} stitches in {} budgets, adapted to {}. Trained: \
         {trained}{}; stitches drawn {}.",
        names.len(),
        names.join(", "),
        space_word(spec.family.space.kind),
        evidence.budgets(),
        target_words(spec),
        if spec.data.text.is_some() { "" } else { " and heads" },
        strategy_words(spec.effective_sampling().strategy),
    )
}

fn target_words(spec: &JobSpec) -> String {
    let path = &spec.data.train.path;
    match spec.task() {
        Task::Classify { classes } => format!("{classes} classes of {path}"),
        Task::Speak { tokens } => format!("texts of {path}, at most {tokens} tokens each"),
    }
}

fn space_word(kind: SpaceKind) -> &'static str {
    match kind {
        SpaceKind::Snnet => "snnet",
        SpaceKind::Esta => "esta",
        SpaceKind::Twoway => "twoway",
        SpaceKind::Proportional => "proportional",
        SpaceKind::Unpaired => "unpaired",
    }
}

fn strategy_words(strategy: SamplingStrategy) -> &'static str {
    match strategy {
        SamplingStrategy::Importance => "by importance",
        SamplingStrategy::Bins => "uniformly inside each budget",
        SamplingStrategy::Uniform => "uniformly",
        SamplingStrategy::Bandit => "by rank of loss inside each budget",
    }
}

fn tiles(evidence: &Evidence) -> [String; 6] {
    [
        progress_tile(evidence),
        time_tile(evidence),
        loss_tile(evidence),
        coverage_tile(evidence),
        accuracy_tile(evidence),
        span_tile(evidence),
    ]
}

fn progress_tile(evidence: &Evidence) -> String {
    let (train, slots) = (&evidence.spec.train, u64::from(evidence.spec.sampling.slots));
    let step = evidence.lines.last().map_or(0, |line| line.step);
    let epoch = evidence.lines.last().and_then(|line| line.epoch);
    let of_total = train
        .max_steps
        .filter(|total| *total != step)
        .map_or_else(String::new, |total| format!(" of {}", count(total)));
    let epochs = epoch.map_or_else(String::new, |epoch| format!(", {} epochs", significant(epoch)));
    let samples = evidence.samples();
    let note = format!(
        "{slots} slots × {} {samples} = {} {samples}{epochs}",
        u64::from(train.batch_size) / slots.max(1),
        count(step * u64::from(train.batch_size))
    );
    tile("steps", &format!("{}{of_total}", count(step)), &note)
}

fn time_tile(evidence: &Evidence) -> String {
    let Some(last) = evidence.lines.last() else { return tile("training", "–", "no step has been logged") };
    let rate = if last.elapsed > 0.0 {
        format!("{} steps/s, ", significant(last.step as f64 / last.elapsed))
    } else {
        String::new()
    };
    let note = format!("{rate}{}until {}", phase_words(evidence), date(last.time));
    tile("training", &duration(last.elapsed), &note)
}

/// Which share of the workers' time was forward and backward, and which all-reduce.
fn phase_words(evidence: &Evidence) -> String {
    let seconds = || evidence.lines.iter().filter_map(|line| line.seconds);
    let (compute, reduce): (f64, f64) = (seconds().map(|s| s.compute).sum(), seconds().map(|s| s.reduce).sum());
    let whole: f64 = seconds().map(|s| s.total()).sum();
    if whole <= 0.0 {
        return String::new();
    }
    format!(
        "{} computing and {} reducing or waiting for slower ranks, ",
        percent(compute / whole),
        percent(reduce / whole)
    )
}

fn loss_tile(evidence: &Evidence) -> String {
    let losses = || evidence.lines.iter().filter_map(|line| line.loss);
    let skipped: u64 = evidence.lines.iter().map(|line| line.skipped).sum();
    let note = format!("from {}; {} skipped", or_dash(losses().next(), significant), steps_words(skipped));
    tile("training loss", &or_dash(losses().next_back(), significant), &note)
}

fn steps_words(steps: u64) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{} steps", count(steps)) }
}

fn coverage_tile(evidence: &Evidence) -> String {
    let coverage = evidence.lines.iter().rev().find_map(|line| line.coverage);
    let slots: u64 = evidence.lines.iter().flat_map(|line| &line.draws).sum();
    tile("stitches visited", &or_dash(coverage, percent), &format!("{} slots drawn", count(slots)))
}

fn accuracy_tile(evidence: &Evidence) -> String {
    let choices = || evidence.deployed().into_iter().flat_map(|palette| &palette.choices);
    let best = choices().filter_map(|choice| choice.accuracy).max_by(f64::total_cmp);
    let note = match &evidence.eval {
        Some(eval) => {
            format!("{} stitches on {} held-out {}", eval.results.len(), count(eval.images), evidence.samples())
        }
        None => "not evaluated".to_owned(),
    };
    tile("best of the palette", &or_dash(best, percent), &note)
}

fn span_tile(evidence: &Evidence) -> String {
    let macs = || evidence.deployed().into_iter().flat_map(|palette| &palette.choices).map(|choice| choice.macs as f64);
    let span = macs().min_by(f64::total_cmp).zip(macs().max_by(f64::total_cmp));
    let note = format!("MACs, {} models by {}", macs().count(), evidence.rule.name());
    tile("palette", &or_dash(span, |(low, high)| span_words(&si(low), &si(high))), &note)
}

/// `7.00 – 33.8 M`: a unit both ends share is said once.
fn span_words(low: &str, high: &str) -> String {
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} – {high}"),
        _ => format!("{low} – {high}"),
    }
}
