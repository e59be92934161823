//! YAML as a tree that remembers where everything was written (HANDS).

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

use super::{Place, keys};

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub value: Value,
    pub place: Place,
}

/// What YAML can say.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Large(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key was written.
    pub place: Place,
    pub node: Node,
}

/// YAML that is not well-formed: where, and what was found.
pub(super) struct Malformed {
    pub place: Place,
    pub flaw: String,
}

/// What the library says to programmers, and what is said instead.
const ASIDES: [(&str, &str); 3] = [
    (", set DuplicateKeyPolicy in Options if acceptable", ""),
    (" rejected by the configured policy", " is no number that can be used"),
    (" by configured policy", ""),
];

impl Node {
    /// Parses one YAML document.
    pub fn parse(text: &str, origin: &Arc<str>) -> Result<Self, Malformed> {
        match serde_saphyr::from_str::<Raw>(text) {
            Ok(raw) => Ok(raw.placed(origin)),
            Err(error) => {
                let at = error.location().map(|at| (at.line(), at.column()));
                let text = error.without_snippet().to_string();
                // The library repeats the place behind the message; it stands before it here.
                let flaw = text.lines().next().unwrap_or_default();
                let flaw = flaw.rfind(" at line ").map_or(flaw, |end| &flaw[..end]).to_owned();
                let flaw = ASIDES.iter().fold(flaw, |flaw, (aside, words)| flaw.replace(aside, words));
                Err(Malformed { place: Place { origin: origin.clone(), at }, flaw })
            }
        }
    }

    /// The entry of a mapping.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Takes an entry out of a mapping.
    pub fn take(&mut self, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else { return None };
        let position = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(position))
    }

    /// Takes an entry out of one of a mapping's sections.
    pub fn take_below(&mut self, section: &str, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else { return None };
        entries.iter_mut().find(|entry| entry.key == section)?.node.take(key)
    }

    /// Lays another node over this one, both of them a section: mappings merge, a null takes a key back, an alternative
    /// takes back the others, anything else replaces.
    pub fn overlay(&mut self, other: Node, section: &str) {
        match (&mut self.value, other.value) {
            (Value::Map(below), Value::Map(above)) => {
                keys::make_way(below, &above, section);
                for entry in above {
                    lay(below, entry, section);
                }
            }
            (_, value) => *self = Node { value, place: other.place },
        }
    }

    /// Lays another node's mappings under this one's: what this one says stands, down to every key, and a null says
    /// nothing. Of alternatives it knows nothing: recipes have none.
    pub fn underlay(&mut self, other: Node) {
        let (Value::Map(own), Value::Map(below)) = (&mut self.value, other.value) else { return };
        for Entry { key, place, mut node } in below {
            let position = own.iter().position(|entry| entry.key == key);
            match position.filter(|&i| !matches!(own[i].node.value, Value::Null)) {
                Some(i) => own[i].node.underlay(node),
                None => {
                    if let Value::Map(_) = node.value {
                        // What a section lacks is lacking here, whoever began the section.
                        node.place = self.place.clone();
                    }
                    own.retain(|entry| entry.key != key);
                    own.push(Entry { key, place, node });
                }
            }
        }
    }

    /// The same values, each said to stand at `place`: where line and column would help nobody.
    pub fn replaced(mut self, place: &Place) -> Self {
        self.replace(place);
        self
    }

    fn replace(&mut self, place: &Place) {
        self.place = place.clone();
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.replace(place)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.place = place.clone();
                entry.node.replace(place);
            }),
            _ => {}
        }
    }

    /// The place of a dotted key, or of the nearest part of it that was written.
    pub fn nearest(&self, key: &str) -> &Place {
        let (mut node, mut place) = (self, &self.place);
        for part in key.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            let below = match &node.value {
                Value::List(items) => part.parse::<usize>().ok().and_then(|i| items.get(i)),
                _ => node.entry(part).map(|entry| &entry.node),
            };
            let Some(below) = below else { break };
            (node, place) = (below, &below.place);
        }
        place
    }
}

fn lay(below: &mut Vec<Entry>, entry: Entry, section: &str) {
    let position = below.iter().position(|old| old.key == entry.key);
    match (position, &entry.node.value) {
        (Some(i), Value::Null) => {
            below.remove(i);
        }
        (Some(i), _) => below[i].node.overlay(entry.node, &keys::inside(section, &entry.key)),
        (None, _) => below.push(entry),
    }
}

impl fmt::Display for Value {
    /// The value as an error names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Large(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a mapping"),
        }
    }
}

/// A value as the library reads it, before it knows its file.
struct Raw(Spanned<RawValue>);

enum RawValue {
    Scalar(Value),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl Raw {
    fn placed(self, origin: &Arc<str>) -> Node {
        let at = |location: &serde_saphyr::Location| Place {
            origin: origin.clone(),
            at: Some((location.line(), location.column())),
        };
        let place = at(&self.0.referenced);
        let value = match self.0.value {
            RawValue::Scalar(value) => value,
            RawValue::List(items) => Value::List(items.into_iter().map(|item| item.placed(origin)).collect()),
            RawValue::Map(entries) => {
                let entry = |(key, raw): (Spanned<String>, Raw)| {
                    let place = at(&key.referenced);
                    Entry { key: key.value, place, node: raw.placed(origin) }
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Node { value, place }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(i64::try_from(value).map_or(Value::Large(value), Value::Int)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Text(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(RawValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawValue, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(RawValue::Map(map))
    }
}
