//! Every part of a page on one page, to be looked at in a browser in light and in dark:
//! `cargo run -p esta-page --example gallery -- gallery.html`.

use std::{env, fs, io};

use esta_page::{
    markup::{details, figure, header, legend, missing, pair, section, study_page, tile},
    numbers::{percent, plus_minus, signed, signed_tick, tick},
    plot::{Axis, Effect, Interval, Mark, Plot, Scale, Series, forest, forest_keys},
    table::{Best, captioned_table, mark_best, table},
};

fn main() -> io::Result<()> {
    let file = env::args().nth(1).unwrap_or_else(|| "gallery.html".to_owned());
    let tiles = [tile("runs", "96", "12 settings, 8 seeds each"), tile("best", "78.3 %", "the whole method")];
    let lead = "Made-up numbers in every element that a page of runs or of studies may hold.";
    let parts = [
        header("a gallery", "Every part of a page", lead, &tiles),
        section("Forest plot", "What each switch is worth, paired by seed.", &effects()),
        section("Bands and whiskers", "Means over eight seeds; two standard errors around them.", &curves()),
        section("Tables", "The best of a row is marked.", &tables()),
        section("Marks", "As in a run's report.", &(marks() + &missing("What is missing says how to make it."))),
    ];
    fs::write(file, study_page("Gallery", &parts.concat()))
}

const POINTS: Axis<'_> = Axis { name: "effect on mean accuracy, points (± 2 standard errors)", words: signed_tick };

fn effects() -> String {
    let known = [
        ("ridge start of heads", 2.31, 0.42, "+2.31 ± 0.42, 8 pairs"),
        ("a floor of visits for anchors", 0.64, 0.31, "+0.64 ± 0.31, 8 pairs"),
        ("deploy by the running loss instead of SNIP, with a budget of its own for every anchor", 1.12, 0.5, "8 pairs"),
        ("sampling by importance", -0.08, 0.35, "−0.08 ± 0.35, 8 pairs"),
        ("reduce.kind: f32", 0.0, 0.0, "1 pair"),
        ("exploration share 0.1 → 0.3", -0.93, 0.38, "−0.93 ± 0.38, 8 pairs, of which two did not converge"),
    ];
    let mut rows: Vec<Effect<'_>> = known
        .into_iter()
        .map(|(label, mean, reach, note)| Effect { label, interval: Some(Interval::around(mean, reach)), note })
        .collect();
    rows.push(Effect { label: "bf16", interval: None, note: "not run" });
    let keys = legend(&forest_keys("better with the switch", "worse with the switch", "not told apart from zero"));
    let narrow = || forest(510.0, POINTS, &rows[..4], "effects, narrow");
    keys + &figure(&forest(1040.0, POINTS, &rows, "effects of switches"), "<b>Fashion-MNIST, turned</b> 8 seeds")
        + &pair(&figure(&narrow(), "<b>digits</b>"), &figure(&narrow(), "<b>coarse</b>"))
}

fn curves() -> String {
    let names = ["whole method", "no floor", "uniform", "bins", "loss rule", "single anchors"];
    let keys: Vec<String> = names.iter().enumerate().map(|(i, name)| Series(i).key(name)).collect();
    legend(&keys) + &pair(&figure(&bands(names.len()), "<b>over steps</b>"), &figure(&whiskers(), "<b>over costs</b>"))
}

fn bands(series: usize) -> String {
    let mut plot = Plot::new((510.0, 300.0), (0.0, 1000.0), (15.0, 85.0), Scale::linear);
    plot.axes(Axis { name: "step", words: tick }, Axis { name: "held-out accuracy, %", words: tick });
    let accuracy = |i: usize, step: f64| 80.0 - 4.0 * i as f64 - 40.0 * (-step / (150.0 + 40.0 * i as f64)).exp();
    let steps = || (0..=40).map(|i| 25.0 * f64::from(i));
    for i in 0..series {
        let reach = 0.6 + 0.4 * i as f64;
        let band: Vec<_> = steps().map(|step| (step, accuracy(i, step) - reach, accuracy(i, step) + reach)).collect();
        plot.band(&band, &Series(i).band());
    }
    for i in 0..series {
        let line: Vec<_> = steps().map(|step| (step, accuracy(i, step))).collect();
        plot.line(&line, &Series(i).trace(), "a series");
    }
    plot.finish("accuracy over steps with confidence bands")
}

fn whiskers() -> String {
    let mut plot = Plot::new((510.0, 300.0), (3e5, 1.5e7), (64.0, 82.0), Scale::of_costs);
    plot.axes(Axis { name: "MACs of one image", words: tick }, Axis { name: "held-out accuracy, %", words: tick });
    for i in 0..3 {
        for (budget, macs) in [4e5, 1e6, 2.2e6, 5e6, 1.18e7].into_iter().enumerate() {
            let mean = 67.0 + 2.6 * budget as f64 + 0.9 * i as f64;
            let x = plot.x.beside(macs, 11.0 * (i as f64 - 1.0));
            let title = format!("budget {budget}: {}", plus_minus(mean, Some(0.8), 1));
            plot.bar_range(x, Interval::around(mean, 0.8), &Series(i).range(), &title);
        }
    }
    plot.finish("accuracy of each budget with error bars")
}

fn tables() -> String {
    let row = |name: &str, values: &[Option<f64>]| {
        [vec![name.to_owned()], mark_best(values, Best::Highest, percent)].concat()
    };
    let rows = [
        row("s, 0.40 M MACs", &[Some(0.688), Some(0.681), None]),
        row("m, 2.17 M MACs", &[Some(0.737), Some(0.7372), Some(0.702)]),
        row("l, 11.8 M MACs", &[Some(0.782), Some(0.781), Some(0.79)]),
    ];
    let seeds = [vec!["0".to_owned(), signed(0.42, 2)], vec!["1".to_owned(), signed(-0.1, 2)]];
    captioned_table("<b>Held-out accuracy</b> of each anchor", &["anchor", "alone", "palette", "uniform"], 1, &rows)
        + &details("By seed", &table(&["seed", "difference"], 1, &seeds))
}

fn marks() -> String {
    let mut plot = Plot::new((1040.0, 220.0), (0.0, 5.0), (0.0, 2.0), Scale::linear);
    plot.axes(Axis { name: "x", words: tick }, Axis { name: "y", words: tick });
    plot.stairs(&[(1.0, 0.6), (3.0, 1.4)], "class=\"front by-snip\"", "a front");
    let marks = [Mark::Dot, Mark::Snip, Mark::Loss, Mark::Star];
    for (x, mark) in (1..).zip(marks) {
        plot.word((f64::from(x), 1.0), mark.class());
        plot.mark((f64::from(x), 1.0), mark, mark.class());
    }
    legend(&marks.map(|mark| mark.key(mark.class()))) + &plot.finish("every mark")
}
