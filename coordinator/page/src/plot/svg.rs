//! SVG as text (HANDS).

use std::fmt::Write;

use crate::markup::{THEME, escape};

/// A drawing as markup.
#[must_use]
pub fn svg((width, height): (f64, f64), label: &str, body: &str) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">{body}</svg>\n",
        escape(label)
    )
}

/// A drawing as a file of its own, in the colours of the pages; `style` is what it adds to the theme's custom
/// properties, `body` is markup.
#[must_use]
pub fn document((width, height): (f64, f64), label: &str, style: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{}\">\n<style>\n{THEME}\
         svg {{ background: var(--card); }}\n\
         text {{ font: 12px system-ui, sans-serif; fill: var(--soft); }}\n{style}</style>\n{body}</svg>\n",
        escape(label)
    )
}

/// Appends words at a point; `class` is a class of the style sheet such as `tick e`.
pub fn text(out: &mut String, class: &str, (x, y): (f64, f64), words: &str) {
    push(out, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(words)));
}

/// Appends formatted text.
pub fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

/// Straight lines through points in pixels, as data of a path.
pub(super) fn path_of(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.enumerate() {
        push(&mut path, format_args!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_of_its_own_brings_the_colours_of_the_pages() {
        let mut body = String::new();
        text(&mut body, "tick e", (1.0, 2.25), "a < b");
        let drawn = document((30.0, 20.0), "\"hostile\"", ".mine { fill: red; }\n", &body);
        assert!(drawn.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 30 20\""), "{drawn}");
        assert!(
            drawn.contains("prefers-color-scheme: dark") && drawn.contains(".mine { fill: red; }\n</style>"),
            "{drawn}"
        );
        assert!(drawn.contains("aria-label=\"&quot;hostile&quot;\""), "{drawn}");
        assert!(drawn.ends_with("<text class=\"tick e\" x=\"1.0\" y=\"2.2\">a &lt; b</text></svg>\n"), "{drawn}");
    }
}
