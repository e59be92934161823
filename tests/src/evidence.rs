//! What a finished run left behind, read without the program's own readers and held against itself.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Row, RowAccessor},
};
use serde_json::Value;

/// The files of a finished run.
pub struct Evidence {
    dir: PathBuf,
    /// `eval.json`
    pub eval: Value,
    /// `palette.json`
    pub palette: Value,
    /// `table.json`
    pub table: Value,
    /// `metrics.jsonl`
    pub metrics: Vec<Value>,
    /// `draws.parquet`
    pub draws: Vec<Draw>,
}

/// A row of `draws.parquet`.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// Of the run, from 0.
    pub step: i64,
    /// Inside its step.
    pub slot: i32,
    /// What was drawn.
    pub stitch: i32,
    /// How likely that was.
    pub probability: f64,
    /// Why it was drawn.
    pub reason: String,
    /// Of the slot's images.
    pub loss: f64,
    /// Whether its gradient was usable.
    pub valid: bool,
}

impl Evidence {
    /// Reads a finished run and checks that its files agree with each other: `steps` steps, none of them skipped.
    ///
    /// # Errors
    /// Naming the file that is absent or says otherwise.
    pub fn read(dir: &Path, steps: u64) -> anyhow::Result<Self> {
        let evidence = Self {
            dir: dir.to_owned(),
            eval: json(&dir.join("eval.json"))?,
            palette: json(&dir.join("palette.json"))?,
            table: json(&dir.join("table.json"))?,
            metrics: text(&dir.join("metrics.jsonl"))?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?,
            draws: draws(&dir.join("draws.parquet"))?,
        };
        evidence.check_draws(steps)?;
        evidence.check_metrics(steps)?;
        evidence.check_table(steps)?;
        evidence.check_choices()?;
        evidence.check_pages()?;
        Ok(evidence)
    }

    /// Draws by stitch.
    #[must_use]
    pub fn visits(&self) -> BTreeMap<i64, u64> {
        let mut visits = BTreeMap::new();
        self.draws.iter().for_each(|draw| *visits.entry(i64::from(draw.stitch)).or_default() += 1);
        visits
    }

    /// Stitches of the catalog, ascending.
    #[must_use]
    pub fn stitches(&self) -> Vec<i64> {
        list(&self.table["rows"]).map(|row| row["stitch"].as_i64().unwrap_or(-1)).collect()
    }

    /// Held-out accuracy of each evaluated stitch, ascending by stitch.
    #[must_use]
    pub fn accuracies(&self) -> Vec<f64> {
        list(&self.eval["results"]).map(|result| result["accuracy"].as_f64().unwrap_or(f64::NAN)).collect()
    }

    /// Mean loss of the run's first and of its last lines.
    #[must_use]
    pub fn losses(&self) -> (f64, f64) {
        let losses: Vec<f64> = self.metrics.iter().filter_map(|line| line["loss"].as_f64()).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let few = losses.len().min(3);
        (mean(&losses[..few]), mean(&losses[losses.len() - few..]))
    }

    fn check_draws(&self, steps: u64) -> anyhow::Result<()> {
        let slots = self.draws.iter().filter(|draw| draw.step == 0).count() as i64;
        ensure!(
            slots > 0 && self.draws.len() as i64 == slots * steps as i64,
            "draws.parquet has {} rows",
            self.draws.len()
        );
        for (draw, index) in self.draws.iter().zip(0..) {
            let due = (draw.step, i64::from(draw.slot)) == (index / slots, index % slots);
            let possible = draw.probability > 0.0 && draw.probability <= 1.0;
            ensure!(due && possible && draw.valid && draw.loss.is_finite(), "row {index} of draws.parquet: {draw:?}");
        }
        Ok(())
    }

    fn check_metrics(&self, steps: u64) -> anyhow::Result<()> {
        let drawn = |line: &Value| list(&line["draws"]).filter_map(Value::as_u64).sum::<u64>();
        for line in &self.metrics {
            let sound = line["loss"].as_f64().is_some_and(f64::is_finite) && line["skipped"] == 0;
            ensure!(sound, "a line of metrics.jsonl: {line}");
        }
        let named: Vec<u64> = self.metrics.iter().filter_map(|line| line["step"].as_u64()).collect();
        ensure!(named.is_sorted() && named.last() == Some(&steps), "metrics.jsonl names the steps {named:?}");
        let total = self.metrics.iter().map(drawn).sum::<u64>();
        ensure!(total == self.draws.len() as u64, "metrics.jsonl counts {total} draws");
        Ok(())
    }

    fn check_table(&self, steps: u64) -> anyhow::Result<()> {
        ensure!(self.table["version"] == steps, "table.json is of version {}", self.table["version"]);
        let drawn = self.visits();
        for row in list(&self.table["rows"]) {
            let stitch = row["stitch"].as_i64().context("a row of table.json without a stitch")?;
            ensure!(row["visits"] == drawn.get(&stitch).copied().unwrap_or(0), "table.json: {row}, drawn: {drawn:?}");
        }
        Ok(())
    }

    /// Every rule chose visited stitches, with the accuracy that was measured, and they were exported.
    fn check_choices(&self) -> anyhow::Result<()> {
        let measured: BTreeMap<i64, &Value> = list(&self.eval["results"])
            .filter_map(|result| Some((result["stitch"].as_i64()?, &result["accuracy"])))
            .collect();
        let exports: Vec<&Value> = list(&self.eval["exports"]).map(|export| &export["stitch"]).collect();
        let rules: Vec<&Value> = list(&self.palette["palettes"]).collect();
        let names: Vec<_> = rules.iter().map(|rule| rule["rule"].as_str()).collect();
        ensure!(names == [Some("snip"), Some("loss"), Some("auto")], "palette.json holds the rules {names:?}");
        for choice in rules.iter().flat_map(|rule| list(&rule["choices"])) {
            let stitch = choice["stitch"].as_i64().context("a choice without a stitch")?;
            ensure!(self.visits().contains_key(&stitch), "palette.json chose a stitch without a visit: {choice}");
            ensure!(measured.get(&stitch) == Some(&&choice["accuracy"]), "eval.json measured otherwise: {choice}");
            ensure!(exports.contains(&&choice["stitch"]), "stitch {stitch} was chosen and not exported");
        }
        for export in list(&self.eval["exports"]) {
            let folder = self.dir.join(export["path"].as_str().context("an export without a path")?);
            for file in ["model.safetensors", "config.json"] {
                ensure!(folder.join(file).is_file(), "{} has no {file}", folder.display());
            }
        }
        Ok(())
    }

    fn check_pages(&self) -> anyhow::Result<()> {
        let page = text(&self.dir.join("report.html"))?;
        ensure!(
            page.contains("<svg") && page.trim_end().ends_with("</html>"),
            "report.html is no whole page with plots"
        );
        let events: Vec<_> = fs::read_dir(self.dir.join("tensorboard"))?.collect::<Result<_, _>>()?;
        ensure!(events.len() == 1, "{} TensorBoard files", events.len());
        let events = fs::read(events[0].path())?;
        let holds = |word: &[u8]| events.windows(word.len()).filter(|part| *part == word).count();
        let logged = holds(b"train/loss");
        ensure!(holds(b"brain.Event:2") == 1 && logged == self.metrics.len(), "TensorBoard has {logged} losses");
        Ok(())
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn json(path: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&text(path)?).with_context(|| format!("reading {}", path.display()))
}

fn draws(path: &Path) -> anyhow::Result<Vec<Draw>> {
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let reader = SerializedFileReader::new(file)?;
    let names = ["step", "slot", "stitch", "probability", "reason", "loss", "valid"];
    let columns = reader.metadata().file_metadata().schema_descr().columns().to_vec();
    let place =
        |name: &str| columns.iter().position(|column| column.name() == name).context(format!("no column {name}"));
    let places = names.into_iter().map(place).collect::<anyhow::Result<Vec<usize>>>()?;
    reader.get_row_iter(None)?.map(|row| draw(&row?, &places)).collect()
}

fn draw(row: &Row, places: &[usize]) -> anyhow::Result<Draw> {
    let &[step, slot, stitch, probability, reason, loss, valid] = places else { unreachable!("one place per name") };
    Ok(Draw {
        step: row.get_long(step)?,
        slot: row.get_int(slot)?,
        stitch: row.get_int(stitch)?,
        probability: row.get_double(probability)?,
        reason: row.get_string(reason)?.clone(),
        loss: row.get_double(loss)?,
        valid: row.get_bool(valid)?,
    })
}
