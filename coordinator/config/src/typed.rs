//! A placed tree as a typed value (HANDS): serde's view of a [`Node`], with errors that know their file, line and key.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    ConfigError, Place, keys,
    node::{Entry, Node, Value},
};

/// How alike two words must be for one to be suggested for the other (Jaro-Winkler, 0 to 1).
const ALIKE: f64 = 0.8;

/// Reads a value out of a tree.
pub(super) fn read<'de, T: Deserialize<'de>>(top: &'de Node) -> Result<T, ConfigError> {
    T::deserialize(top).map_err(|flaw| ConfigError::Key {
        place: flaw.place.unwrap_or_else(|| top.place.clone()),
        key: flaw.key,
        flaw: flaw.text,
    })
}

/// A flaw on its way out: the innermost place stands, keys are put before one another.
#[derive(Debug)]
pub(super) struct Flaw {
    place: Option<Place>,
    key: String,
    text: String,
}

impl Flaw {
    fn new(text: String) -> Self {
        Self { place: None, key: String::new(), text }
    }

    fn at(mut self, place: &Place) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self
    }

    fn under(mut self, part: &str) -> Self {
        let joint = if self.key.is_empty() || self.key.starts_with('[') { "" } else { "." };
        self.key = format!("{part}{joint}{}", self.key);
        self
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Flaw {}

impl de::Error for Flaw {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => format!("{text:?}"),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Float(number) => number.to_string(),
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            other => other.to_string(),
        };
        Self::new(format!("{found}, expected {}", words(&expected.to_string())))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let ours = keys::elsewhere(field).map_or_else(|| suggest(field, known), str::to_owned);
        Self::new(format!("unknown key {field:?}; {ours}"))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value {variant:?}; {}", suggest(variant, known)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key {field:?} is missing"))
    }
}

/// What serde expects, for whoever writes YAML and no Rust.
fn words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        _ if expected.starts_with("a nonzero u") => "a whole number, 1 or more",
        _ if expected.starts_with("struct ") => "a mapping of keys to values",
        _ => expected,
    }
}

fn suggest(word: &str, known: &[&str]) -> String {
    let likeness = |other: &&str| strsim::jaro_winkler(word, other);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match best.filter(|best| likeness(best) >= ALIKE) {
        Some(best) => format!("did you mean {best:?}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        let value = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => u64::try_from(*value).map_or(Number::Signed(*value), Number::Unsigned).visit(visitor),
            Value::Large(value) => visitor.visit_u64(*value),
            // 2e3 is a count too.
            Value::Float(value) => Number::of(*value).visit(visitor),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), current: None }),
        };
        value.map_err(|flaw| flaw.at(&self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Flaw> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        let chosen = match &self.value {
            Value::Text(name) => visitor.visit_enum(Choice { name, place: &self.place, content: None }),
            Value::Map(entries) => match entries.as_slice() {
                [Entry { key, place, node }] => visitor.visit_enum(Choice { name: key, place, content: Some(node) }),
                several => {
                    let count = several.len();
                    Err(Flaw::new(format!("{count} keys, expected one alone: {}", variants.join(", "))))
                }
            },
            other => Err(Flaw::new(format!("{other}, expected a word"))),
        };
        chosen.map_err(|flaw| flaw.at(&self.place))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// A number as serde's visitors like it best.
enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    fn of(value: f64) -> Self {
        // Exactly representable counts only.
        let whole = value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
        if whole { Self::Unsigned(value as u64) } else { Self::Float(value) }
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self {
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
        }
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Flaw;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Flaw> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|flaw| flaw.at(&item.place).under(&format!("[{index}]")))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Flaw;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Flaw> {
        self.current = self.entries.next();
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Flaw> = StrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|flaw| flaw.at(&entry.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Flaw> {
        let entry = self.current.expect("serde asks for a value after its key");
        seed.deserialize(&entry.node).map_err(|flaw| flaw.at(&entry.node.place).under(&entry.key))
    }
}

/// A variant by its name, with what stands behind it.
struct Choice<'de> {
    name: &'de str,
    place: &'de Place,
    content: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Flaw;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Flaw> {
        let name: StrDeserializer<'_, Flaw> = StrDeserializer::new(self.name);
        let variant = seed.deserialize(name).map_err(|flaw| flaw.at(self.place))?;
        Ok((variant, self))
    }
}

impl<'de> Choice<'de> {
    fn content(&self) -> Result<&'de Node, Flaw> {
        self.content.ok_or_else(|| Flaw::new(format!("{:?} needs a value: write {}: ...", self.name, self.name)))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Flaw;

    fn unit_variant(self) -> Result<(), Flaw> {
        match self.content.map(|node| &node.value) {
            None | Some(Value::Null) => Ok(()),
            Some(value) => Err(Flaw::new(format!("{:?} takes no value, but has {value}", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Flaw> {
        seed.deserialize(self.content()?).map_err(|flaw| flaw.under(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Flaw> {
        self.content()?.deserialize_any(visitor).map_err(|flaw| flaw.under(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Flaw> {
        self.content()?.deserialize_any(visitor).map_err(|flaw| flaw.under(self.name))
    }
}
