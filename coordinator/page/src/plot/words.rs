//! How wide words are, without a font (HANDS): a page is drawn before anyone knows which font shows it.

/// Width of a line in pixels at this size of letter, generously: fonts of the page differ by a tenth.
#[must_use]
pub fn width_of(text: &str, size: f64) -> f64 {
    size * text.chars().map(ems).sum::<f64>()
}

fn ems(letter: char) -> f64 {
    match letter {
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | 'I' | ' ' | '.' | ',' | ':' | ';' | '!' | '|' | '/' | '(' | ')' | '\'' => {
            0.38
        }
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        letter if letter.is_uppercase() => 0.7,
        letter if letter.is_ascii() => 0.6,
        // Ideographs are square.
        letter if letter >= '\u{2e80}' => 1.0,
        _ => 0.65,
    }
}

/// Lines of a text, broken between words, none wider than `room` pixels unless a letter is; at least one line.
#[must_use]
pub fn wrap(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace().flat_map(|word| pieces(word, size, room)) {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            *line = word;
        } else if width_of(line, size) + width_of(" ", size) + width_of(&word, size) <= room {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines
}

/// A word in parts that fit into the room.
fn pieces(word: &str, size: f64, room: f64) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for letter in word.chars() {
        let piece = pieces.last_mut().expect("there is always a piece");
        if piece.is_empty() || width_of(piece, size) + size * ems(letter) <= room {
            piece.push(letter);
        } else {
            pieces.push(letter.to_string());
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_their_room_and_lose_nothing() {
        let text = "without the ridge start of heads, an-unbreakable-word-that-is-far-too-long-for-one-line 中文";
        let lines = wrap(text, 13.0, 160.0);
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| width_of(line, 13.0) <= 160.0), "{lines:?}");
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(letters(&lines.concat()), letters(text));
    }

    #[test]
    fn no_words_are_one_empty_line() {
        assert_eq!(wrap(" ", 13.0, 100.0), [""]);
        assert_eq!(wrap("ab", 13.0, 0.0), ["a", "b"], "a letter wider than the room stands alone");
    }
}
