//! `tojson` as chat templates know it: Python's `json.dumps` with `ensure_ascii` off (HANDS).

use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// How values are laid out.
struct Style {
    /// Spaces per level; none writes one line.
    indent: Option<usize>,
    /// Between items.
    comma: String,
    /// Between a key and its value.
    colon: String,
    ascii: bool,
    sorted: bool,
}

/// The filter: `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (comma, colon) = match separators.as_deref() {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some([comma, colon]) => (comma.clone(), colon.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are two texts")),
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let mut out = String::new();
    Style { indent, comma, colon, ascii, sorted }.write(value, 0, &mut out)?;
    Ok(out)
}

impl Style {
    fn write(&self, value: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default(), out),
            ValueKind::Map => self.map(value, level, out)?,
            ValueKind::Seq | ValueKind::Iterable => self.list(value, level, out)?,
            kind => {
                let message = format!("tojson: a value of kind {kind} has no JSON form");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn list(&self, list: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        out.push('[');
        let mut items = 0;
        for item in list.try_iter()? {
            self.begin(items, level + 1, out);
            self.write(&item, level + 1, out)?;
            items += 1;
        }
        self.end(items, level, out);
        out.push(']');
        Ok(())
    }

    fn map(&self, map: &Value, level: usize, out: &mut String) -> Result<(), Error> {
        let mut keys: Vec<Value> = map.try_iter()?.collect();
        if self.sorted {
            keys.sort();
        }
        out.push('{');
        for (items, key) in keys.iter().enumerate() {
            self.begin(items, level + 1, out);
            self.text(&key.to_string(), out);
            out.push_str(&self.colon);
            self.write(&map.get_item(key)?, level + 1, out)?;
        }
        self.end(keys.len(), level, out);
        out.push('}');
        Ok(())
    }

    fn begin(&self, items: usize, level: usize, out: &mut String) {
        if items > 0 {
            out.push_str(&self.comma);
        }
        self.line(level, out);
    }

    fn end(&self, items: usize, level: usize, out: &mut String) {
        if items > 0 {
            self.line(level, out);
        }
    }

    fn line(&self, level: usize, out: &mut String) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * level));
        }
    }

    fn text(&self, text: &str, out: &mut String) {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ascii {
            out.push_str(&quoted);
            return;
        }
        for unit in quoted.encode_utf16() {
            match u8::try_from(unit).ok().filter(u8::is_ascii) {
                Some(byte) => out.push(char::from(byte)),
                None => {
                    let written = write!(out, "\\u{unit:04x}");
                    written.expect("a String takes every write");
                }
            }
        }
    }
}

/// A number as Python's `repr` writes it: an exponent has a sign and two digits at least.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let shown = format!("{number:?}");
    let Some((mantissa, exponent)) = shown.split_once('e') else { return shown };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
