//! What answering costs nothing (HANDS): two trivial answers that a model has to beat.

use std::collections::{BTreeMap, BTreeSet};

use crate::question::Question;
use crate::set::TextSet;

/// Exact match over held-out questions, 0 to 1: trimmed texts are equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baselines {
    /// The most frequent training answer to the same pattern of instruction.
    pub majority: f64,
    /// The line of the input that shares most words with the instruction.
    pub copy: f64,
}

/// The baselines on `held_out`; none when either set holds documents.
///
/// A pattern is the instruction without the words that its own input holds: what remains of "Which header declares
/// open?" over a page on `open` is the question without its subject. A pattern that training never showed is answered
/// with the most frequent training answer of all. Ties go to the answer first in byte order, and to the first line.
#[must_use]
pub fn baselines(train: &TextSet, held_out: &TextSet) -> Option<Baselines> {
    of_questions(train.questions(), held_out.questions())
}

fn of_questions(train: &[Question], held_out: &[Question]) -> Option<Baselines> {
    let overall = most_frequent(train.iter().map(|question| question.answer.trim()))?;
    let mut by_pattern: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for question in train {
        by_pattern.entry(pattern(question)).or_default().push(question.answer.trim());
    }
    let majority: BTreeMap<String, &str> =
        by_pattern.into_iter().filter_map(|(pattern, answers)| Some((pattern, most_frequent(answers)?))).collect();
    let share = |answer: &dyn Fn(&Question) -> String| {
        let right = held_out.iter().filter(|question| answer(question) == question.answer.trim()).count();
        right as f64 / held_out.len() as f64
    };
    (!held_out.is_empty()).then(|| Baselines {
        majority: share(&|question| majority.get(&pattern(question)).copied().unwrap_or(overall).to_owned()),
        copy: share(&|question| closest_line(question).trim().to_owned()),
    })
}

fn most_frequent<'a>(answers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    answers.into_iter().for_each(|answer| *counts.entry(answer).or_default() += 1);
    // The last of equal maxima wins: in reverse that is the first in byte order.
    counts.into_iter().rev().max_by_key(|&(_, count)| count).map(|(answer, _)| answer)
}

fn pattern(question: &Question) -> String {
    let subject = words(&question.input);
    let kept = question.instruction.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
    let kept = kept.map(str::to_lowercase).filter(|word| !subject.contains(word));
    kept.collect::<Vec<_>>().join(" ")
}

fn closest_line(question: &Question) -> &str {
    let asked = words(&question.instruction);
    let shared = |line: &&str| words(line).intersection(&asked).count();
    // The last of equal maxima wins: in reverse that is the first line.
    question.input.lines().rev().max_by_key(shared).unwrap_or_default()
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(instruction: &str, input: &str, answer: &str) -> Question {
        let [instruction, input, answer] = [instruction, input, answer].map(str::to_owned);
        Question { prompt: String::new(), instruction, input, answer }
    }

    #[test]
    fn the_majority_answer_is_the_patterns_own() {
        let train = [
            question("Which header declares open?", "open a file", "<fcntl.h>"),
            question("Which header declares creat?", "creat makes a file", "<fcntl.h>"),
            question("Which header declares read?", "read a file", "<unistd.h>"),
            question("What does close return?", "close a file", "0"),
            question("What does dup return?", "dup a file", "0"),
            question("What does fork return?", "fork a process", "0"),
        ];
        let held_out = [
            question("Which header declares openat?", "openat a file", " <fcntl.h>\n"),
            question("What does kill return?", "kill a process", "0"),
            question("Say something.", "", "0"),
            question("What does getpid return?", "getpid", "the process"),
        ];
        let found = of_questions(&train, &held_out).unwrap();
        assert_eq!(found.majority, 0.75);
    }

    #[test]
    fn the_copied_line_shares_most_words_and_is_the_first_of_equals() {
        let page = "open opens\nint open(const char *)\nreturn value of open";
        let held_out = [
            question("What is the return value of open?", page, "return value of open"),
            question("What is the return value of open?", page, "int open(const char *)"),
            question("Name open.", page, "open opens"),
            question("Name nothing", "", "x"),
        ];
        assert_eq!(of_questions(&held_out, &held_out).unwrap().copy, 0.5);
    }

    #[test]
    fn equal_counts_go_to_the_first_answer_in_byte_order() {
        assert_eq!(most_frequent(["b", "a", "b", "a", "c"]), Some("a"));
        assert_eq!(of_questions(&[], &[question("q", "", "a")]), None);
    }
}
