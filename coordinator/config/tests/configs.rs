//! Every file in `configs/` loads, whatever folder it is in, and says what it claims to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use esta_config::{load, load_unmeasured};
use esta_engine::spec::{BudgetSpec, HeadInit, PaletteRule, ParamBins, Recipe};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// All YAML files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is readable").map(|entry| entry.expect("an entry").path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    let mut files: Vec<PathBuf> = entries.flat_map(below).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    files
}

fn is_base(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("_base"))
}

/// Studies name jobs and are none; `esta-study` tests them.
fn is_study(file: &Path) -> bool {
    file.parent().is_some_and(|folder| folder.ends_with("studies"))
}

#[test]
fn every_file_is_a_valid_job() {
    let jobs: Vec<PathBuf> = files(&configs()).into_iter().filter(|file| !is_base(file) && !is_study(file)).collect();
    for file in &jobs {
        load(file, &[]).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(jobs.len() > 25, "only {} files were found", jobs.len());
    let vision = jobs.iter().filter(|file| file.parent().is_some_and(|folder| folder.ends_with("vision"))).count();
    assert_eq!(vision, 25, "5 fine-grained sets, 19 of VTAB-1k and CIFAR-100");
}

#[test]
fn every_file_takes_the_readmes_budgets_by_latency_and_other_ones() {
    for file in files(&configs()).into_iter().filter(|file| !is_base(file) && !is_study(file)) {
        let with = |budgets: &str| {
            let law = load_unmeasured(&file, &[budgets.to_owned()]);
            law.unwrap_or_else(|error| panic!("{}: {error}", file.display())).spec.budgets
        };
        for latency in ["gap: 2ms", "edges: [5ms, 12ms, 30ms]"] {
            with(&format!("budgets={{latency: {{profile: latency.json, {latency}}}}}"));
        }
        assert_eq!(with("budgets.gap=1e18"), BudgetSpec::Gap(1e18), "{}", file.display());
        assert_eq!(with("budgets={params: {edges: [1e18]}}"), BudgetSpec::Params(ParamBins::Edges(vec![1e18])));
    }
}

#[test]
fn every_file_whose_results_are_documented_names_its_recipe() {
    let spec = |name: &str| load(&configs().join(name), &[]).expect("it is valid").spec;
    for file in ["quickstart/source.yaml", "snnet-deit.yaml", "study/letters.yaml"] {
        assert_eq!(spec(file).recipe, Recipe::Paper, "{file}");
    }
    let quickstart = spec("quickstart/target.yaml");
    let sampling = &quickstart.sampling;
    assert_eq!((quickstart.recipe, sampling.slots, sampling.anchor_floor), (Recipe::Best, 8, 0.4));
    assert_eq!((quickstart.train.head_init, quickstart.palette.rule), (HeadInit::Zero, PaletteRule::Auto));
    for file in ["quickstart/alone-s.yaml", "quickstart/alone-m.yaml", "quickstart/alone-l.yaml"] {
        let alone = spec(file);
        assert_eq!((alone.recipe, alone.sampling.slots), (Recipe::Best, 1), "{file}");
        assert_eq!(alone.pst.targets, quickstart.pst.targets, "{file}: it is tuned with the palette's adapters");
    }
    assert_eq!(spec("vision/cub200.yaml").recipe, Recipe::Best);
}

#[test]
fn every_base_is_somebodys() {
    let all = files(&configs());
    let base_of = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("the file is readable");
        let base = text.lines().find_map(|line| line.strip_prefix("base:"))?.trim().to_owned();
        let base = file.parent().expect("it is in a folder").join(base);
        Some(base.canonicalize().unwrap_or_else(|_| panic!("{} names a base that is not there", file.display())))
    };
    let used: BTreeSet<PathBuf> = all.iter().filter_map(base_of).collect();
    for base in all.iter().filter(|file| is_base(file)) {
        assert!(used.contains(&base.canonicalize().expect("it is there")), "nothing extends {}", base.display());
    }
}

#[test]
fn names_are_unique_so_that_runs_get_folders_of_their_own() {
    let jobs = files(&configs()).into_iter().filter(|file| !is_base(file) && !is_study(file));
    let mut folders = BTreeSet::new();
    for file in jobs {
        let law = load(&file, &[]).expect("it is valid");
        assert!(folders.insert(law.spec.run_dir()), "{} shares the folder {}", file.display(), law.spec.run_dir());
    }
}

#[test]
fn the_shipped_spaces_have_the_published_sizes() {
    let size = |name: &str| {
        let law = load(&configs().join(name), &[]).expect("it is valid");
        (law.catalog.stitches().count(), law.catalog.id_bound(), law.catalog.bins().len())
    };
    assert_eq!(size("snnet-deit.yaml"), (71, 71, 16));
    assert_eq!(size("snnet-v2-deit.yaml").0, 134);
    assert_eq!(size("snnet-v2-deit.yaml").1, 135);
    assert_eq!(size("vision/cub200.yaml").0, 67);
    assert_eq!(size("llama-7b-13b-alpaca.yaml"), (2 + 31, 2 + 31, 6));
    assert_eq!(size("qwen3-0.6b-1.7b-alpaca.yaml").0, 2 + 27);
    assert_eq!(size("qwen3-4b-8b-alpaca.yaml").0, 2 + 35);
    assert_eq!(size("llama-3.2-1b-3b-alpaca.yaml").0, 2 + 15);
    assert_eq!(size("smollm2-135m-360m-alpaca.yaml").0, 2 + 29);
}
