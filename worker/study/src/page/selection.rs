//! What every rule loses against the best of each budget, with intervals and beside controls that know nothing (HANDS).

use std::collections::{BTreeMap, BTreeSet};

use esta_page::{
    markup::{details, escape, missing, section as markup_section},
    numbers::or_dash,
    table::{captioned_table, table},
};

use super::view::{code, sentence};

/// Rules that were tried on the same runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuleGroup {
    /// Which runs: a space or a group of arms.
    pub title: String,
    /// More about them, such as how many palettes and budgets.
    pub words: String,
    /// The rule that a job's `palette.rule: auto` stands for, by the name of its line.
    pub shipped: String,
    /// One a rule, in the order of the table.
    pub lines: Vec<RuleLine>,
    /// One an arm.
    pub arms: Vec<ArmLine>,
}

/// What the rules that a job can name lose in one arm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArmLine {
    /// The arm.
    pub arm: String,
    /// Its runs.
    pub runs: usize,
    /// The rule that is shipped.
    pub auto: Loss,
    /// The paper's.
    pub snip: Loss,
    /// The trivial control that loses least on split halves of these very runs.
    pub control: String,
    /// What it loses.
    pub best_control: Loss,
    /// Bootstrap interval of `auto` over that control, split halves.
    pub interval: Option<(f64, f64)>,
}

/// Points of accuracy lost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Against the best of a budget.
    pub mean: f64,
    /// The same with the best chosen on one half of the images and scored on the other.
    pub split: f64,
}

/// What a line of the table is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A rule.
    #[default]
    Rule,
    /// A control that knows nothing of training.
    Trivial,
    /// A control that has a rule's values and not whose they are.
    Shuffled,
}

/// What a rule loses, in points of accuracy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RuleLine {
    /// Its short name.
    pub rule: String,
    /// What it does.
    pub words: String,
    /// What it costs beside training; empty where nobody says.
    pub cost: String,
    /// What it is there for.
    pub role: Role,
    /// Mean regret; none when it chose nowhere.
    pub mean: Option<f64>,
    /// The same with the best chosen on one half of the images and scored on the other.
    pub split: Option<f64>,
    /// Lower and upper end of the mean's bootstrap interval.
    pub interval: Option<(f64, f64)>,
    /// The same of `split`.
    pub split_interval: Option<(f64, f64)>,
    /// Mean Kendall tau between its value and accuracy.
    pub tau: Option<f64>,
    /// The same by budget, in ascending cost.
    pub tau_by_budget: BTreeMap<u32, f64>,
    /// What else there is to say.
    pub note: String,
}

/// Size of a bar's drawing.
const BAR: (f64, f64) = (150.0, 14.0);

/// The section of all groups.
#[must_use]
pub fn section(groups: &[RuleGroup]) -> String {
    let title = "Selection";
    if groups.iter().all(|group| group.lines.is_empty()) {
        return markup_section(title, "", &missing("No rules were tried on this study's runs."));
    }
    let lead = "Rules that pick a stitch of each budget, and what each costs beside training. Those that need forward \
        passes or labelled images of their own say so: they are there to show what an evaluation stage would gain. \
        Regret is in points of accuracy against the best stitch of the same budget; lines across bars are bootstrap \
        intervals over targets. The best of many noisy accuracies is flattered by its noise; the split column picks it \
        on one half of the images and scores on the other. Kendall's τ says how well a rule orders the stitches of a \
        budget (1 perfectly, 0 not at all). Controls do not know which stitch trained well and are grey.";
    let body: String = groups.iter().filter(|group| !group.lines.is_empty()).map(group_markup).collect();
    markup_section(title, lead, &body)
}

fn group_markup(group: &RuleGroup) -> String {
    let ends = group.lines.iter().flat_map(|line| [line.mean, line.interval.map(|(_, high)| high)]);
    let highest = ends.flatten().filter(|end| end.is_finite()).fold(0.01, f64::max);
    // A column of notes only where there is one.
    let columns = if group.lines.iter().any(|line| !line.note.is_empty()) { 9 } else { 8 };
    let rows: Vec<Vec<String>> =
        group.lines.iter().map(|line| row(line, group, highest).into_iter().take(columns).collect()).collect();
    let heads = ["rule", "what it does", "", "mean regret", "interval", "split", "interval", "mean τ", "note"];
    let title = format!("<p><b>{}</b> {}<br/>{}</p>\n", escape(&group.title), escape(&group.words), verdict(group));
    title + &table(&heads[..columns], 3, &rows) + &by_arm(&group.arms) + &by_budget(&group.lines)
}

/// What `auto` and `snip` lose in every arm, beside that arm's own best trivial control.
fn by_arm(arms: &[ArmLine]) -> String {
    if arms.is_empty() {
        return String::new();
    }
    let row = |line: &ArmLine| {
        let share = |own: f64, other: f64| or_dash((other > 0.0).then(|| own / other), points);
        let both = |loss: Loss| [points(loss.mean), points(loss.split)];
        let within =
            line.interval.map_or_else(String::new, |(low, high)| format!(" ({} to {})", points(low), points(high)));
        let ratios =
            [share(line.auto.mean, line.best_control.mean), share(line.auto.split, line.best_control.split) + &within];
        [escape(&line.arm), escape(&line.control), line.runs.to_string()]
            .into_iter()
            .chain([both(line.auto), both(line.snip), both(line.best_control), ratios].concat())
            .collect()
    };
    let rows: Vec<Vec<String>> = arms.iter().map(row).collect();
    let heads = [
        "arm",
        "best control",
        "runs",
        "auto",
        "split",
        "snip",
        "split",
        "best control",
        "split",
        "auto over control",
        "split",
    ];
    let caption = "<b>By arm</b> Regret in points; the best trivial control is chosen on split halves of these very \
        runs, which flatters it. The interval is a bootstrap over targets.";
    captioned_table(caption, &heads, 2, &rows)
}

/// Kendall's tau of every rule in every budget.
fn by_budget(lines: &[RuleLine]) -> String {
    let budgets: BTreeSet<u32> = lines.iter().flat_map(|line| line.tau_by_budget.keys().copied()).collect();
    if budgets.is_empty() {
        return String::new();
    }
    let names: Vec<String> = budgets.iter().map(u32::to_string).collect();
    let heads: Vec<&str> = ["rule"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |line: &RuleLine| {
        let cells = budgets.iter().map(|budget| or_dash(line.tau_by_budget.get(budget).copied(), points));
        [name(line)].into_iter().chain(cells).collect()
    };
    let ordered = lines.iter().filter(|line| !line.tau_by_budget.is_empty());
    let rows: Vec<Vec<String>> = ordered.map(row).collect();
    details(
        "Kendall's τ by budget, in ascending cost, mean over the runs in which a rule orders it",
        &table(&heads, 1, &rows),
    )
}

fn name(line: &RuleLine) -> String {
    match line.role {
        Role::Rule => escape(&line.rule),
        Role::Trivial | Role::Shuffled => format!("control: {}", escape(&line.rule)),
    }
}

/// Two decimals; what reads as zero has no sign.
pub(crate) fn points(value: f64) -> String {
    match format!("{value:.2}") {
        zero if zero == "-0.00" => "0.00".to_owned(),
        said => said.replace('-', "−"),
    }
}

fn row(line: &RuleLine, group: &RuleGroup, highest: f64) -> Vec<String> {
    let [mean, split, tau] = [line.mean, line.split, line.tau].map(|value| value.filter(|value| value.is_finite()));
    let is_shipped = line.rule == group.shipped;
    let name = name(line);
    let within = |interval| or_dash(interval, |(low, high): (f64, f64)| format!("{} to {}", points(low), points(high)));
    vec![
        if is_shipped { format!("<b>{name}</b> <span class=\"badge auto\">shipped</span>") } else { name },
        what(line),
        or_dash(mean, |mean| bar(line, is_shipped, mean, highest)),
        or_dash(mean, points),
        within(line.interval),
        or_dash(split, points),
        within(line.split_interval),
        or_dash(tau, points),
        if line.note.is_empty() { String::new() } else { sentence(&escape(&line.note)) },
    ]
}

/// What a rule does and what it costs.
fn what(line: &RuleLine) -> String {
    let cost = if line.cost.is_empty() { String::new() } else { format!(". Costs {}", line.cost) };
    let words = format!("{}{cost}", line.words);
    if words.is_empty() { String::new() } else { sentence(&escape(&words)) }
}

/// A bar as long as the mean, with a line over its interval.
fn bar(line: &RuleLine, is_shipped: bool, mean: f64, highest: f64) -> String {
    let at = |value: f64| (value / highest).clamp(0.0, 1.0) * (BAR.0 - 2.0) + 1.0;
    let colour = match (line.role, is_shipped, line.rule.as_str()) {
        (Role::Trivial | Role::Shuffled, ..) => "dot",
        (Role::Rule, true, _) => "auto",
        (Role::Rule, false, "snip") => "snip",
        (Role::Rule, false, _) => "loss",
    };
    let whisker = line.interval.map_or_else(String::new, |(low, high)| {
        let (low, high) = (at(low), at(high));
        let line = format!("M{low:.1} 3V11M{low:.1} 7H{high:.1}M{high:.1} 3V11");
        format!("<path style=\"stroke:var(--ink);stroke-width:1.4;fill:none\" d=\"{line}\"/>")
    });
    format!(
        "<svg style=\"vertical-align:middle\" width=\"{0:.0}\" height=\"{1:.0}\" viewBox=\"0 0 {0:.0} {1:.0}\" \
         role=\"img\" aria-label=\"{2}\">\
         <rect style=\"fill:var(--{colour})\" x=\"1\" y=\"2\" width=\"{3:.1}\" height=\"10\" rx=\"2\"/>{whisker}</svg>",
        BAR.0,
        BAR.1,
        points(mean),
        (at(mean) - 1.0).max(1.0)
    )
}

/// Which rule is shipped and how it does beside the best trivial control.
fn verdict(group: &RuleGroup) -> String {
    let Some(shipped) = group.lines.iter().find(|line| line.rule == group.shipped) else {
        return "The rule that is shipped as <code>auto</code> was not among those tried.".to_owned();
    };
    let known = |line: &&RuleLine| line.role == Role::Trivial && line.mean.is_some_and(f64::is_finite);
    let by_mean =
        |a: &&RuleLine, b: &&RuleLine| a.mean.unwrap_or(f64::INFINITY).total_cmp(&b.mean.unwrap_or(f64::INFINITY));
    let best = group.lines.iter().filter(known).min_by(by_mean);
    let name = if shipped.rule == "auto" { String::new() } else { format!(", {},", code(&shipped.rule)) };
    let name = format!("The rule that is shipped as <code>auto</code>{name}");
    let Some((own, control, mean)) = shipped.mean.zip(best).and_then(|(own, best)| Some((own, best, best.mean?)))
    else {
        return format!("{name} has no control to be compared with.");
    };
    let split = shipped.split.zip(control.split).map_or_else(String::new, |(own, other)| {
        format!(" On split halves it is {} against {}{}.", points(own), points(other), ratio(own, other))
    });
    format!(
        "{name} loses {} points, the best trivial control ({}) {}{}.{split}",
        points(own),
        escape(&control.rule),
        points(mean),
        ratio(own, mean)
    )
}

/// The ratio in words; nothing where a regret is not above zero and a ratio says nothing.
fn ratio(own: f64, other: f64) -> String {
    if own < 0.0 || other <= 0.0 { String::new() } else { format!(": a ratio of {:.2}", own / other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rule: &str, role: Role, mean: Option<f64>, split: f64) -> RuleLine {
        let interval = mean.map(|mean| (mean - 0.1, mean + 0.1));
        RuleLine { rule: rule.into(), role, mean, split: Some(split), interval, ..RuleLine::default() }
    }

    fn group(lines: Vec<RuleLine>) -> RuleGroup {
        RuleGroup { title: "two-way".into(), shipped: "trend".into(), lines, ..RuleGroup::default() }
    }

    #[test]
    fn the_shipped_rule_is_measured_by_the_best_trivial_control() {
        let lines = vec![
            line("snip", Role::Rule, Some(0.2), 0.1),
            line("trend", Role::Rule, Some(0.3), 0.1),
            line("random", Role::Trivial, Some(0.8), 0.6),
            line("largest", Role::Trivial, Some(0.4), -0.05),
            line("shuffled", Role::Shuffled, Some(0.35), 0.0),
        ];
        let said = section(&[group(lines)]);
        let sentence = "auto</code>, <code>trend</code>, loses 0.30 points, the best trivial control (largest) \
             0.40: a ratio of 0.75. \
             On split halves it is 0.10 against −0.05.";
        assert!(said.contains(sentence), "{said}");
        assert!(said.contains("<b>trend</b> <span class=\"badge auto\">shipped</span>"), "{said}");
        assert!(said.contains("<td>control: largest</td>") && said.contains("0.30 to 0.50"), "{said}");
        assert_eq!(["--dot", "--auto", "--snip"].map(|colour| said.matches(colour).count()), [3, 1, 1]);
        assert!(
            said.contains("<td>control: shuffled</td>"),
            "no rule, and not the best trivial control either: {said}"
        );
    }

    #[test]
    fn arms_stand_beside_their_own_best_control_and_budgets_by_how_well_they_are_ordered() {
        let arm = ArmLine {
            arm: "paper".into(),
            runs: 18,
            auto: Loss { mean: 0.4, split: 0.1 },
            snip: Loss { mean: 2.0, split: 1.8 },
            control: "largest".into(),
            best_control: Loss { mean: 1.6, split: 1.0 },
            interval: Some((0.05, 0.2)),
        };
        let mut of_rule = line("trend", Role::Rule, Some(0.3), 0.1);
        of_rule.split_interval = Some((0.01, 0.22));
        of_rule.tau_by_budget = [(2, 0.5), (4, -0.25)].into();
        let said = section(&[RuleGroup { arms: vec![arm], ..group(vec![of_rule]) }]);
        let cells =
            |cells: &[&str]| cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect::<String>();
        let wanted = cells(&["18", "0.40", "0.10", "2.00", "1.80", "1.60", "1.00", "0.25", "0.10 (0.05 to 0.20)"]);
        assert!(said.contains(&format!("<td>paper</td><td>largest</td>{wanted}")), "{said}");
        assert!(said.contains("0.01 to 0.22"), "{said}");
        assert!(said.contains(&format!("<tr><td>trend</td>{}</tr>", cells(&["0.50", "−0.25"]))), "{said}");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let said = section(&[group(vec![line("trend", Role::Rule, None, 0.1)])]);
        assert!(said.contains("has no control to be compared with"), "{said}");
        assert!(
            said.contains("<td>–</td><td class=\"n\">–</td><td class=\"n\">–</td><td class=\"n\">0.10</td>"),
            "{said}"
        );
        assert!(section(&[]).contains("No rules were tried"));
        assert!(section(&[group(vec![line("snip", Role::Rule, None, 0.1)])]).contains("was not among those tried"));
    }
}
