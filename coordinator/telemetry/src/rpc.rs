//! What OpenTelemetry's conventions call the parts of a gRPC call (HANDS), for either end of it.

use opentelemetry::KeyValue;

/// The version of the conventions that are followed; a backend that knows later ones renames by it.
pub(crate) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

/// The method of a call that is none of ours.
pub const OTHER: &str = "_OTHER";

/// The codes of gRPC, in their order.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Those that a server answers for: others are its client's doing.
const FAULTS_OF_SERVERS: [&str; 6] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// Whose view of a call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its client's: whatever is not OK is an error.
    Client,
    /// Its server's: what a client did wrong is no error of the server.
    Server,
}

/// A call that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Over {
    /// What is said of it, for its span and its measure alike.
    pub attributes: Vec<KeyValue>,
    /// The error it is to this end, if it is one.
    pub error: Option<&'static str>,
}

/// A code as the conventions spell it, such as `DEADLINE_EXCEEDED`.
#[must_use]
pub fn code_name(code: i32) -> &'static str {
    usize::try_from(code).ok().and_then(|code| CODES.get(code)).copied().unwrap_or("UNKNOWN")
}

/// What is said of a call of this method that ended with this code.
#[must_use]
pub fn over(end: End, method: &str, code: i32) -> Over {
    let name = code_name(code);
    let is_error = match end {
        End::Client => name != "OK",
        End::Server => FAULTS_OF_SERVERS.contains(&name),
    };
    let error = is_error.then_some(name);
    let mut attributes = vec![
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", method.to_owned()),
        KeyValue::new("rpc.response.status_code", name),
    ];
    attributes.extend(error.map(|error| KeyValue::new("error.type", error)));
    Over { attributes, error }
}

/// What a span of a call is called.
#[must_use]
pub fn span_name(method: &str) -> String {
    if method == OTHER { "grpc" } else { method }.to_owned()
}

/// Where a server is, as its client was told: an authority such as `esta-0.esta:7700`, or a URL with one.
#[must_use]
pub fn server(target: &str) -> Vec<KeyValue> {
    let authority = target.split_once("://").map_or(target, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    // What stands before an @ is a secret.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let port = authority.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let (host, port) = match port.map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) => (host, Some(port)),
        _ => (authority, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Vec::new();
    }
    let address = KeyValue::new("server.address", host.to_owned());
    std::iter::once(address).chain(port.map(|port| KeyValue::new("server.port", i64::from(port)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelt_as_the_conventions_do() {
        let names = [0, 1, 3, 4, 16, 17, -1].map(code_name);
        let expected =
            ["OK", "CANCELLED", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "UNKNOWN", "UNKNOWN"];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_a_client_did_wrong_is_an_error_to_the_client_alone() {
        let error = |end, code| over(end, "esta.v1.Coordinator/Join", code).error;
        assert_eq!((error(End::Server, 0), error(End::Client, 0)), (None, None));
        assert_eq!((error(End::Server, 16), error(End::Client, 16)), (None, Some("UNAUTHENTICATED")));
        assert_eq!((error(End::Server, 14), error(End::Client, 14)), (Some("UNAVAILABLE"), Some("UNAVAILABLE")));
        let Over { attributes, .. } = over(End::Client, "esta.v1.Coordinator/Join", 14);
        let keys: Vec<_> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        assert_eq!(keys, ["rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"]);
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        let told = |target: &str| -> Vec<String> {
            server(target).iter().map(|said| format!("{}={}", said.key, said.value)).collect()
        };
        assert_eq!(told("http://127.0.0.1:7700"), ["server.address=127.0.0.1", "server.port=7700"]);
        assert_eq!(told("https://esta-0.esta:7700/x"), ["server.address=esta-0.esta", "server.port=7700"]);
        assert_eq!(told("esta:7700"), ["server.address=esta", "server.port=7700"]);
        assert_eq!(told("http://[::1]:7700"), ["server.address=::1", "server.port=7700"]);
        assert_eq!(told("http://[::1]"), ["server.address=::1"]);
        assert_eq!(told("http://me:secret@esta"), ["server.address=esta"]);
        assert!(told("http://").is_empty() && told("").is_empty());
    }
}
