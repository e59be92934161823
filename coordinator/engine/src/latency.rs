//! Latencies (LAW): how long a forward pass takes, as budgets, profiles and users write it.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use esta_proto::StitchId;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Unexpected, Visitor},
};
use thiserror::Error;

const NANOS_PER_MILLI: f64 = 1e6;

/// A day: what takes longer is a typing error. Counts of nanoseconds below it survive the way through milliseconds.
const LONGEST: f64 = 86_400_000.0;

/// A time in whole nanoseconds, so that both ends of a session bin alike. Written as a number of milliseconds; read from
/// that, or from words such as `12ms` and `0.8s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Latency(u64);

/// A text that is no latency.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no latency; write 12ms, 0.8s, or a number of milliseconds")]
pub struct InvalidLatency(String);

impl Latency {
    /// So many milliseconds; `None` unless more than 0 and at most a day.
    #[must_use]
    pub fn from_millis(millis: f64) -> Option<Self> {
        let nanos = (millis * NANOS_PER_MILLI).round();
        (nanos >= 1.0 && millis <= LONGEST).then_some(Self(nanos as u64))
    }

    /// Nanoseconds that were a latency's before.
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In milliseconds.
    #[must_use]
    pub fn millis(self) -> f64 {
        self.0 as f64 / NANOS_PER_MILLI
    }

    /// In nanoseconds.
    #[must_use]
    pub fn nanos(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Latency {
    /// What was measured, at least one nanosecond and at most a day.
    fn from(took: Duration) -> Self {
        let longest = (LONGEST * NANOS_PER_MILLI) as u64;
        Self(u64::try_from(took.as_nanos()).unwrap_or(longest).clamp(1, longest))
    }
}

impl FromStr for Latency {
    type Err = InvalidLatency;

    fn from_str(text: &str) -> Result<Self, InvalidLatency> {
        let (digits, factor) = match text.strip_suffix('s') {
            None => (text, 1.0),
            Some(seconds) => seconds.strip_suffix('m').map_or((seconds, 1e3), |digits| (digits, 1.0)),
        };
        let millis = digits.trim_end().parse::<f64>().ok().map(|number| number * factor);
        millis.and_then(Self::from_millis).ok_or_else(|| InvalidLatency(text.to_owned()))
    }
}

impl fmt::Display for Latency {
    /// To three digits or more: `0.734 ms`, `12.30 ms`, `123.4 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.millis();
        let digits = if millis < 10.0 { 3 } else { 2 - usize::from(millis >= 100.0) };
        write!(f, "{millis:.digits$} ms")
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.millis())
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LatencyVisitor)
    }
}

struct LatencyVisitor;

impl Visitor<'_> for LatencyVisitor {
    type Value = Latency;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a latency: 12ms, 0.8s, or a number of milliseconds")
    }

    fn visit_f64<E: de::Error>(self, millis: f64) -> Result<Latency, E> {
        Latency::from_millis(millis).ok_or_else(|| E::invalid_value(Unexpected::Float(millis), &self))
    }

    fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Latency, E> {
        Latency::from_millis(millis as f64).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(millis), &self))
    }

    fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Latency, E> {
        Latency::from_millis(millis as f64).ok_or_else(|| E::invalid_value(Unexpected::Signed(millis), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Latency, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Latency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Latency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Milliseconds, or words such as 12ms and 0.8s.",
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "pattern": "^[0-9.eE+-]+ ?(ms|s)?$" }
            ]
        })
    }
}

/// Reads a mapping whose keys are stitches' numbers; JSON knows keys as text alone.
pub(crate) fn by_stitch<'de, D, T>(deserializer: D) -> Result<BTreeMap<StitchId, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let read = BTreeMap::<Key, T>::deserialize(deserializer)?;
    Ok(read.into_iter().map(|(Key(stitch), value)| (stitch, value)).collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key(StitchId);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.parse().map(StitchId);
        number.map(Self).map_err(|_| de::Error::invalid_value(Unexpected::Str(&text), &"the number of a stitch"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<f64> {
        text.parse().ok().map(Latency::millis)
    }

    #[test]
    fn a_latency_is_read_with_and_without_its_unit() {
        assert_eq!(
            [read("12ms"), read("0.8s"), read("12"), read("1.5 ms")].map(Option::unwrap),
            [12.0, 800.0, 12.0, 1.5]
        );
        for wrong in ["", "ms", "12m", "12min", "-1ms", "0ms", "NaN", "inf", "2 days", "90000s"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn json_takes_numbers_and_words_and_gives_numbers_back() {
        let read: Vec<Latency> = serde_json::from_str(r#"[2, 1.25, "3ms", "0.5s"]"#).expect("latencies");
        assert_eq!(serde_json::to_string(&read).expect("JSON"), "[2.0,1.25,3.0,500.0]");
        let wrong = serde_json::from_str::<Latency>(r#""soon""#).expect_err("no latency").to_string();
        assert!(wrong.contains(r#""soon", expected a latency: 12ms"#), "{wrong}");
        assert!(serde_json::from_str::<Latency>("-1").is_err() && serde_json::from_str::<Latency>("0").is_err());
    }

    #[test]
    fn whole_nanoseconds_survive_the_way_through_milliseconds() {
        for nanos in [1, 999_999, 1_000_001, 123_456_789, 86_399_999_999_999] {
            let text = serde_json::to_string(&Latency(nanos)).expect("JSON");
            assert_eq!(serde_json::from_str::<Latency>(&text).expect("its own text"), Latency(nanos));
        }
    }

    #[test]
    fn latencies_are_shown_to_three_digits_or_more() {
        let shown = [0.734, 12.3, 123.44, 1234.0].map(|millis| Latency::from_millis(millis).unwrap().to_string());
        assert_eq!(shown, ["0.734 ms", "12.30 ms", "123.4 ms", "1234.0 ms"]);
    }
}
