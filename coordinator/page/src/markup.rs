//! The page around the sections, what sections are made of, and escaping (HANDS).

/// Text as it may stand in markup and in quoted attributes, whatever a user has named things.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Neither a page nor a drawing of its own may hold other control characters.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// The colours of pages, as custom properties for light and dark.
/// Colours and type, light and dark.
pub const THEME: &str = include_str!("style/theme.css");
/// What a page of sections, tables and plots looks like.
pub const PAGE: &str = include_str!("style/page.css");
const STUDY: &str = include_str!("style/study.css");

/// A whole page; `body` is markup.
#[must_use]
pub fn page(title: &str, body: &str) -> String {
    styled(title, &[THEME, PAGE], body)
}

/// A whole page that compares runs; `body` is markup. Series, bands, whiskers, forest plots, captions and marked cells
/// have their styles here alone: a run's own page has none of them.
#[must_use]
pub fn study_page(title: &str, body: &str) -> String {
    styled(title, &[THEME, PAGE, STUDY], body)
}

fn styled(title: &str, sheets: &[&str], body: &str) -> String {
    let (title, style) = (escape(title), sheets.concat());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · ESTA</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <main>\n{body}</main>\n</body>\n</html>\n"
    )
}

/// The head of a page: what kind of page it is, its title and a sentence, all text, above [`tile`]s.
#[must_use]
pub fn header(kind: &str, title: &str, lead: &str, tiles: &[String]) -> String {
    let [kind, title, lead] = [kind, title, lead].map(escape);
    let tiles = tiles.concat();
    format!(
        "<header>\n<p class=\"kicker\">ESTA · {kind}</p>\n<h1>{title}</h1>\n<p class=\"lead\">{lead}</p>\n\
         <div class=\"tiles\">\n{tiles}</div>\n</header>\n"
    )
}

/// A number that stands for a page, with its name and a note; all text.
#[must_use]
pub fn tile(name: &str, value: &str, note: &str) -> String {
    let [name, value, note] = [name, value, note].map(escape);
    format!(
        "<div class=\"tile\"><div class=\"name\">{name}</div><div class=\"value\">{value}</div>\
         <div class=\"note\">{note}</div></div>\n"
    )
}

/// A section; `lead` and `body` are markup.
#[must_use]
pub fn section(title: &str, lead: &str, body: &str) -> String {
    let lead = if lead.is_empty() { String::new() } else { format!("<p class=\"lead\">{lead}</p>\n") };
    format!("<section>\n<h2>{}</h2>\n{lead}{body}</section>\n", escape(title))
}

/// What a section needs and how to make it; markup.
#[must_use]
pub fn missing(what: &str) -> String {
    format!("<p class=\"missing\">{what}</p>\n")
}

/// What opens at a click; `summary` is text, `body` is markup.
#[must_use]
pub fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}

/// An SVG document as an image: its style stays its own, and its text is never read as markup of the page.
#[must_use]
pub fn image(document: &str, label: &str) -> String {
    let mut encoded = String::with_capacity(document.len() + document.len() / 4);
    for character in document.chars() {
        if character.is_ascii_alphanumeric() || " -_.,;=/".contains(character) {
            encoded.push(character);
            continue;
        }
        for byte in character.encode_utf8(&mut [0; 4]).bytes() {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("<img alt=\"{}\" style=\"max-width:100%\" src=\"data:image/svg+xml,{encoded}\"/>\n", escape(label))
}

/// A drawing under its caption; both are markup.
#[must_use]
pub fn figure(drawing: &str, caption: &str) -> String {
    format!("<figure><figcaption>{caption}</figcaption>\n{drawing}</figure>\n")
}

/// Two drawings side by side where there is room; both are markup.
#[must_use]
pub fn pair(left: &str, right: &str) -> String {
    format!("<div class=\"pair\">{left}{right}</div>\n")
}

/// What marks and colours mean, in a line; the keys are those of [`plot`](crate::plot).
#[must_use]
pub fn legend(keys: &[String]) -> String {
    format!("<div class=\"legend\">{}</div>\n", keys.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_its_quotes() {
        let hostile = "</style><script>alert('x')</script>\"\u{0}\u{c}&";
        assert_eq!(
            escape(hostile),
            "&lt;/style&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;\u{fffd}\u{fffd}&amp;"
        );
    }

    #[test]
    fn the_parts_of_a_page_take_hostile_words() {
        let hostile = "</b><script>";
        let parts = [header(hostile, hostile, hostile, &[tile(hostile, hostile, hostile)]), details(hostile, "")];
        assert!(!study_page(hostile, &parts.concat()).contains(hostile));
    }

    #[test]
    fn a_page_has_a_colour_for_light_and_for_dark_wherever_it_names_one() {
        let sheets = [THEME, PAGE, STUDY].concat();
        let names = sheets.split("var(").skip(1).filter_map(|rest| rest.split(')').next());
        for name in names.filter(|name| !["--c", "--least"].contains(name)) {
            assert!(sheets.matches(&format!(" {name}: #")).count() >= 2, "{name} is not given for light and dark");
        }
    }

    #[test]
    fn only_a_study_carries_the_styles_of_a_study() {
        let only_there = |class: &str| study_page("a", "").contains(class) && !page("a", "").contains(class);
        assert!([".forest", ".band", ".range", "\ncaption {", ".best"].into_iter().all(only_there));
    }
}
