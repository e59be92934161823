//! Everything a report shows, read from a run's folder (HANDS). Only `job.json` is required.

use std::{fs, io, path::Path};

use esta_engine::{
    catalog::{Catalog, Stitch},
    palette::Choice,
    regret::Measured,
    spec::{JobSpec, PaletteRule},
    table::Row,
};
use esta_proto::{BudgetId, StitchId};
use serde::{Deserialize, de::DeserializeOwned};

use super::ReportError;
use crate::artifacts::{
    draws::Draws,
    lines,
    metrics::MetricsLine,
    parts::DrawFiles,
    summary::{self, EvalEntry, EvalFile, PaletteEntry, PaletteFile, RulePalette, TableFile},
};

/// A model of the same task that is no stitch of this run, from `baselines.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Baseline {
    /// What it is.
    pub name: String,
    /// The anchor it is made of, if it is one.
    #[serde(default)]
    pub anchor: Option<u32>,
    /// MACs of one image.
    pub macs: u64,
    /// Held-out accuracy 0..1.
    pub accuracy: f64,
    /// Parameters of a language model.
    #[serde(default)]
    pub params: Option<u64>,
    /// Held-out loss of a language model.
    #[serde(default)]
    pub loss: Option<f64>,
}

/// A run as its folder tells it.
#[derive(Debug)]
pub struct Evidence {
    /// The job.
    pub spec: JobSpec,
    /// Its stitches.
    pub catalog: Catalog,
    /// Lines of `metrics.jsonl`.
    pub lines: Vec<MetricsLine>,
    /// Every slot of every committed step.
    pub draws: Draws,
    /// What each rule chose, with Pareto flags by the accuracies known at this moment; none before the run has ended.
    pub palettes: Option<Vec<RulePalette>>,
    /// The rule the job deploys by.
    pub rule: PaletteRule,
    /// The final table.
    pub table: Option<TableFile>,
    /// Held-out accuracies.
    pub eval: Option<EvalFile>,
    /// Other models of the task.
    pub baselines: Option<Vec<Baseline>>,
}

impl Evidence {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// [`ReportError`] when `job.json` is missing or any file is damaged.
    pub fn read(run_dir: &Path) -> Result<Self, ReportError> {
        let missing_job = || io::Error::new(io::ErrorKind::NotFound, "there is no run in this folder");
        let spec: JobSpec = read(run_dir, "job.json")?.ok_or_else(|| failed(run_dir, "job.json")(missing_job()))?;
        let catalog = Catalog::build(&spec)?;
        let eval: Option<EvalFile> = read(run_dir, "eval.json")?;
        let palettes: Option<PaletteFile> = read(run_dir, "palette.json")?;
        let rejudge = |file: PaletteFile| {
            file.palettes.iter().map(|palette| rejudge(&spec, &catalog, palette, eval.as_ref())).collect()
        };
        Ok(Self {
            lines: read_lines(run_dir)?,
            draws: DrawFiles::of(run_dir).read().map_err(failed(run_dir, "draws.parquet"))?,
            rule: spec.palette.rule,
            palettes: palettes.map(rejudge),
            table: read(run_dir, "table.json")?,
            baselines: read(run_dir, "baselines.json")?,
            eval,
            spec,
            catalog,
        })
    }

    /// Whether its samples are texts, not images.
    #[must_use]
    pub fn reads_texts(&self) -> bool {
        self.catalog.task.tokens() > 0
    }

    /// What its samples are called.
    #[must_use]
    pub fn samples(&self) -> &'static str {
        if self.reads_texts() { "texts" } else { "images" }
    }

    /// What the share of held-out samples that are right is called.
    #[must_use]
    pub fn accuracy_word(&self) -> &'static str {
        if self.reads_texts() { "exact match" } else { "accuracy" }
    }

    /// Budgets of the catalog.
    #[must_use]
    pub fn budgets(&self) -> usize {
        self.catalog.bins().len()
    }

    /// The stitches of a bin in ascending cost.
    #[must_use]
    pub fn bin(&self, budget: usize) -> Vec<&Stitch> {
        let ids = self.catalog.bins().get(budget).into_iter().flatten();
        let mut stitches: Vec<&Stitch> = ids.filter_map(|id| self.catalog.get(*id)).collect();
        stitches.sort_by_key(|stitch| (stitch.macs, stitch.id));
        stitches
    }

    /// A stitch's row of the final table; an empty one when there is none.
    #[must_use]
    pub fn row(&self, stitch: StitchId) -> Row {
        let rows = self.table.iter().flat_map(|table| &table.rows);
        rows.into_iter().find(|entry| entry.stitch == stitch).map_or_else(Row::default, |entry| entry.row)
    }

    /// What was measured of a stitch.
    #[must_use]
    pub fn result(&self, stitch: StitchId) -> Option<&EvalEntry> {
        self.eval.as_ref()?.results.iter().find(|result| result.stitch == stitch)
    }

    /// A stitch's held-out accuracy.
    #[must_use]
    pub fn accuracy(&self, stitch: StitchId) -> Option<f64> {
        self.result(stitch).map(|result| result.accuracy)
    }

    /// The folder of a stitch's exported model.
    #[must_use]
    pub fn export(&self, stitch: StitchId) -> Option<&str> {
        let exports = &self.eval.as_ref()?.exports;
        exports.iter().find(|export| export.stitch == stitch).map(|export| export.path.as_str())
    }

    /// The palette of the rule the job deploys by.
    #[must_use]
    pub fn deployed(&self) -> Option<&RulePalette> {
        self.palettes.as_ref()?.iter().find(|palette| palette.rule == self.rule)
    }

    /// What a rule chose for a budget.
    #[must_use]
    pub fn choice(&self, rule: PaletteRule, budget: BudgetId) -> Option<&PaletteEntry> {
        let palette = self.palettes.as_ref()?.iter().find(|palette| palette.rule == rule)?;
        palette.choices.iter().find(|choice| choice.budget == budget)
    }

    /// The rules that chose a stitch.
    #[must_use]
    pub fn chosen_by(&self, stitch: StitchId) -> Vec<PaletteRule> {
        let chose = |palette: &&RulePalette| palette.choices.iter().any(|choice| choice.stitch == stitch);
        self.palettes.iter().flatten().filter(chose).map(|palette| palette.rule).collect()
    }

    /// Every stitch with its accuracy and its row; `None` unless all are evaluated and the run has ended.
    #[must_use]
    pub fn measured(&self) -> Option<Vec<Measured>> {
        self.table.as_ref()?;
        let measure = |stitch: &Stitch| {
            let result = self.result(stitch.id)?;
            Some(Measured {
                stitch: stitch.id,
                budget: stitch.budget,
                macs: stitch.macs,
                row: self.row(stitch.id),
                accuracy: result.accuracy,
                halves: result.halves,
            })
        };
        self.catalog.stitches().map(measure).collect()
    }

    /// A stitch's path in words.
    #[must_use]
    pub fn path(&self, stitch: &Stitch) -> String {
        stitch.path(&self.spec.family)
    }
}

/// A palette with its Pareto flags by the accuracies there are: it may have been written before them.
fn rejudge(spec: &JobSpec, catalog: &Catalog, palette: &RulePalette, eval: Option<&EvalFile>) -> RulePalette {
    let choice = |entry: &PaletteEntry| Choice {
        budget: entry.budget,
        stitch: entry.stitch,
        macs: entry.macs,
        params: entry.params,
        latency: entry.latency,
        value: entry.value,
    };
    let choices: Vec<Choice> = palette.choices.iter().map(choice).collect();
    summary::rule_palette(spec, catalog, palette.rule, &choices, eval)
}

fn failed(run_dir: &Path, name: &str) -> impl FnOnce(io::Error) -> ReportError {
    let file = run_dir.join(name);
    move |source| ReportError::Read { file, source }
}

fn read<T: DeserializeOwned>(run_dir: &Path, name: &str) -> Result<Option<T>, ReportError> {
    summary::read_optional(&run_dir.join(name)).map_err(failed(run_dir, name))
}

fn read_lines(run_dir: &Path) -> Result<Vec<MetricsLine>, ReportError> {
    match fs::read_to_string(run_dir.join("metrics.jsonl")) {
        Ok(text) => Ok(lines::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(run_dir, "metrics.jsonl")(error)),
    }
}
